/** The page's drawings: strokes on a grid of 24, in the colour of the text around them. */
import type { ComponentChildren } from "preact";

interface Size {
  readonly size?: number;
}

function Drawing({ size = 20, children }: Size & { readonly children: ComponentChildren }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

/** Makes an icon of one path. */
function stroke(d: string) {
  return function Icon({ size = 20 }: Size) {
    return (
      <Drawing size={size}>
        <path d={d} />
      </Drawing>
    );
  };
}

export const PenIcon = stroke(
  "M11 5H7a3 3 0 0 0-3 3v9a3 3 0 0 0 3 3h9a3 3 0 0 0 3-3v-4M18.5 3.5l2 2L12 14l-3 1 1-3z",
);
export const MenuIcon = stroke("M4 7.5h16M4 16.5h10");
export const CloseIcon = stroke("M6 6l12 12M18 6L6 18");
export const CheckIcon = stroke("M5 12.5l4.5 4.5L19 7.5");
export const SendIcon = stroke("M12 19V5.5M6 11l6-6 6 6");
export const DownIcon = stroke("M12 5v13.5M6 13l6 6 6-6");
export const TrashIcon = stroke(
  "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 12.5h9.4L17.5 7M10.2 11v5M13.8 11v5",
);
export const RenameIcon = stroke("M4 20l1-4.2L15.8 5a2.2 2.2 0 0 1 3.2 3.2L8.2 19z");
export const RetryIcon = stroke("M19.5 12a7.5 7.5 0 1 1-2.2-5.3L19.5 9M19.5 4.5V9H15");
export const AlertIcon = stroke("M12 8v5M12 16.4v.1M12 3.5l9 16H3z");
export const LinkIcon = stroke(
  "M13 5h6v6M19 5l-9 9M16 14v4a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 4 18V9a1.5 1.5 0 0 1 1.5-1.5H10",
);
export const MoonIcon = stroke("M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z");
export const PictureIcon = stroke(
  "M4 6.5A1.5 1.5 0 0 1 5.5 5h13A1.5 1.5 0 0 1 20 6.5v11a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 17.5zM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9.2v.1",
);
export const ClipIcon = stroke(
  "M19.5 11.5l-7.6 7.6a4.6 4.6 0 0 1-6.5-6.5l8-8a3.1 3.1 0 0 1 4.4 4.4l-7.9 7.9a1.55 1.55 0 0 1-2.2-2.2l7.2-7.2",
);
export const FileIcon = stroke(
  "M13.5 3.5H7A1.5 1.5 0 0 0 5.5 5v14A1.5 1.5 0 0 0 7 20.5h10a1.5 1.5 0 0 0 1.5-1.5V8.5zM13.5 3.5v5h5",
);
export const TextFileIcon = stroke(
  "M13.5 3.5H7A1.5 1.5 0 0 0 5.5 5v14A1.5 1.5 0 0 0 7 20.5h10a1.5 1.5 0 0 0 1.5-1.5V8.5zM13.5 3.5v5h5M9 12.5h6M9 16h4",
);
export const MovieIcon = stroke(
  "M4 7.5A1.5 1.5 0 0 1 5.5 6h13A1.5 1.5 0 0 1 20 7.5v9a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 16.5zM10.5 9.5v5l4-2.5z",
);
export const SoundIcon = stroke(
  "M9 17.5V5.5l10-2v12M9 17.5a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 15.5a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z",
);
export const ArchiveIcon = stroke(
  "M4.5 8.5h15M5.5 8.5v9.5a1.5 1.5 0 0 0 1.5 1.5h10a1.5 1.5 0 0 0 1.5-1.5V8.5l-2-4h-9zM10 12.5h4",
);
export const DownloadIcon = stroke("M12 4.5v10.5M7.5 11l4.5 4.5 4.5-4.5M5 19.5h14");
/** A question: the person is asked. */
export const HandIcon = stroke(
  "M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H12l-4.5 4v-4h-1A2.5 2.5 0 0 1 4 13.5zM10 8.4a2.1 2.1 0 1 1 3 1.9c-.7.35-1 .7-1 1.3M12 13.5v.1",
);
export const CloudOffIcon = stroke(
  "M4 4l16 16M7.2 9.2A4.4 4.4 0 0 0 7.5 18h9M10.4 6.6A5.5 5.5 0 0 1 17.3 11a3.6 3.6 0 0 1 2.3 5.8",
);

export function ClockIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <circle cx="12" cy="12" r="8.5" />
      <path d="M12 7v5l3.2 2" />
    </Drawing>
  );
}

export function BanIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <circle cx="12" cy="12" r="8.5" />
      <path d="M6 6l12 12" />
    </Drawing>
  );
}

export function SearchIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <circle cx="10.8" cy="10.8" r="6.3" />
      <path d="M15.5 15.5L20 20" />
    </Drawing>
  );
}

export function CopyIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <rect x="8.5" y="8.5" width="11" height="11" rx="2.5" />
      <path d="M15.5 8.5V7A2.5 2.5 0 0 0 13 4.5H7A2.5 2.5 0 0 0 4.5 7v6A2.5 2.5 0 0 0 7 15.5h1.5" />
    </Drawing>
  );
}

export function HelpIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <circle cx="12" cy="12" r="8.5" />
      <path d="M9.6 9.6a2.4 2.4 0 1 1 3.6 2.1c-.8.45-1.2.9-1.2 1.8M12 16.4v.1" />
    </Drawing>
  );
}

export function SunIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <circle cx="12" cy="12" r="3.8" />
      <path d="M12 3v1.8M12 19.2V21M3 12h1.8M19.2 12H21M5.6 5.6l1.3 1.3M17.1 17.1l1.3 1.3M18.4 5.6l-1.3 1.3M6.9 17.1l-1.3 1.3" />
    </Drawing>
  );
}

export function SystemIcon({ size = 20 }: Size) {
  return (
    <Drawing size={size}>
      <rect x="3.5" y="4.5" width="17" height="11.5" rx="2" />
      <path d="M8.5 20h7M12 16v4" />
    </Drawing>
  );
}

export function DotsIcon({ size = 20 }: Size) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">
      <circle cx="5.5" cy="12" r="1.6" />
      <circle cx="12" cy="12" r="1.6" />
      <circle cx="18.5" cy="12" r="1.6" />
    </svg>
  );
}

export function StopIcon({ size = 20 }: Size) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">
      <rect x="6.5" y="6.5" width="11" height="11" rx="2.2" />
    </svg>
  );
}

/** The mark: a capsule of two halves. */
export function Mark({ size = 40 }: Size) {
  return (
    <svg class="mark" width={size} height={size} viewBox="0 0 40 40" aria-hidden="true">
      <g transform="rotate(-45 20 20)">
        <path class="mark-first" d="M19 12H11a8 8 0 0 0 0 16h8z" />
        <path class="mark-second" d="M21 12h8a8 8 0 0 1 0 16h-8z" />
      </g>
    </svg>
  );
}

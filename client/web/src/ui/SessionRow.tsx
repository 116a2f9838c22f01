import { useEffect, useRef } from "preact/hooks";
import type { SessionEntry } from "../core/model.ts";
import { DotsIcon } from "./icons.tsx";
import { titleOf, useUi } from "./state.ts";

/** As the sidecar's limit of a title. */
const TITLE_CHARS = 200;

interface Props {
  readonly entry: SessionEntry;
  readonly active: boolean;
}

export function SessionRow({ entry, active }: Props) {
  const ui = useUi();
  if (ui.renaming.value === entry.id) return <Renaming entry={entry} />;
  const title = titleOf(entry);
  const waiting = ui.chat.waiting.value.has(entry.id);
  const menuOpen = ui.menu.value?.session.id === entry.id;
  const open = (event: MouseEvent) => {
    // With a modifier the browser opens the address in a tab of its own.
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    ui.drawer.value = false;
    ui.chat.open(entry.id);
  };
  return (
    <li
      class="session-row"
      data-active={active || undefined}
      data-menu={menuOpen || undefined}
      data-waiting={waiting || undefined}
    >
      <a
        id={rowId(entry)}
        href={`#/${entry.id}`}
        title={waiting ? `${title}: waits for your answer` : title}
        aria-current={active ? "page" : undefined}
        dir="auto"
        onClick={open}
      >
        {waiting && <span class="row-waiting" />}
        {title}
        {waiting && <span class="sr-only">, waits for your answer</span>}
      </a>
      <button
        type="button"
        class="icon-button small"
        aria-label={`Options of “${title}”`}
        aria-haspopup="menu"
        aria-expanded={menuOpen}
        onClick={(event) => {
          ui.menu.value = menuOpen ? null : { session: entry, anchor: event.currentTarget };
        }}
      >
        <DotsIcon size={18} />
      </button>
    </li>
  );
}

function Renaming({ entry }: { readonly entry: SessionEntry }) {
  const ui = useUi();
  const ref = useRef<HTMLInputElement>(null);
  /** Leaving the field after Enter or Escape would end it twice. */
  const ended = useRef(false);
  useEffect(() => {
    ref.current?.focus();
    ref.current?.select();
  }, []);
  const end = (keep: boolean, giveBack: boolean) => {
    if (ended.current) return;
    ended.current = true;
    const title = ref.current?.value.trim() ?? "";
    ui.renaming.value = "";
    if (keep && title && title !== entry.title) void ui.chat.rename(entry.id, title);
    if (giveBack) requestAnimationFrame(() => document.getElementById(rowId(entry))?.focus());
  };
  return (
    <li class="session-row" data-renaming>
      <input
        ref={ref}
        aria-label="Title of the chat"
        value={entry.title}
        placeholder={titleOf(entry)}
        maxLength={TITLE_CHARS}
        autocomplete="off"
        dir="auto"
        enterkeyhint="done"
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === "Enter" || event.key === "Escape") {
            event.preventDefault();
            end(event.key === "Enter", true);
          }
        }}
        onBlur={() => end(true, false)}
      />
    </li>
  );
}

function rowId(entry: SessionEntry): string {
  return `row-${entry.id}`;
}

import { useEffect, useState } from "preact/hooks";
import { copyText } from "../copy.ts";
import { CheckIcon, CopyIcon } from "./icons.tsx";
import { useUi } from "./state.ts";

const SHOWN_MS = 1800;

interface Props {
  /** As "Copy the answer". */
  readonly label: string;
  /** Read when it is clicked, so that a growing text costs nothing. */
  readonly text: () => string;
}

export function CopyButton({ label, text }: Props) {
  const ui = useUi();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    const done = await copyText(text());
    setCopied(done);
    ui.announcer.say(done ? "Copied." : "Copying did not work.");
  };
  return (
    <button
      type="button"
      class="icon-button small"
      aria-label={label}
      title={label}
      data-done={copied || undefined}
      onClick={copy}
    >
      {copied ? <CheckIcon size={17} /> : <CopyIcon size={17} />}
    </button>
  );
}

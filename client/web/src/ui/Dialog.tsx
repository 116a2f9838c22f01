/** A modal dialog: the browser's own keeps the focus inside, closes by Escape and gives it back. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { CloseIcon } from "./icons.tsx";

interface Props {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly onClose: () => void;
  /** With a cross in the corner. */
  readonly cross?: boolean;
}

export function Dialog({ title, children, onClose, cross = false }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // Taken out of the document, a dialog does not give the focus back. Whoever moved it elsewhere
      // since, by a key pressed just after Escape, keeps it there.
      if (before instanceof HTMLElement && before.isConnected && unheld(dialog)) before.focus();
    };
  }, []);
  return (
    // The backdrop is the dialog itself where its frame is not: a click there is a convenience, and
    // the keyboard has Escape.
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog
    <dialog
      ref={ref}
      class="dialog"
      aria-labelledby="dialog-title"
      onClose={onClose}
      onClick={(event) => {
        if (event.target === ref.current) ref.current?.close();
      }}
    >
      <div class="dialog-frame">
        <h2 id="dialog-title">{title}</h2>
        {children}
        {cross && (
          <button
            type="button"
            class="icon-button dialog-cross"
            aria-label="Close"
            onClick={() => ref.current?.close()}
          >
            <CloseIcon />
          </button>
        )}
      </div>
    </dialog>
  );
}

/** Whether the focus is nowhere, or in what is being taken away. */
function unheld(dialog: HTMLElement | null): boolean {
  const active = document.activeElement;
  return active === null || active === document.body || dialog?.contains(active) === true;
}

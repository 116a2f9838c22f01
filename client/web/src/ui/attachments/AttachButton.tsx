import { useRef } from "preact/hooks";
import { ClipIcon } from "../icons.tsx";
import { useUi } from "../state.ts";

/** Chooses files for the message. */
export function AttachButton() {
  const { chat, focusComposer } = useUi();
  const input = useRef<HTMLInputElement>(null);
  const full = chat.attachments.value.length >= chat.maxAttachments.value;
  const label = full ? "No more files can be attached" : "Attach files";
  return (
    <>
      <button
        type="button"
        class="round attach"
        aria-label={label}
        title={label}
        aria-disabled={full}
        onClick={() => full || input.current?.click()}
      >
        <ClipIcon />
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        tabIndex={-1}
        aria-label="Files to attach"
        onChange={(event) => {
          const { currentTarget: field } = event;
          const files = [...(field.files ?? [])];
          field.value = ""; // So that the same file may be chosen again.
          if (files.length > 0) {
            chat.attach(files);
            focusComposer();
          }
        }}
      />
    </>
  );
}

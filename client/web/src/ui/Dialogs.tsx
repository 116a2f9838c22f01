import { Dialog } from "./Dialog.tsx";
import { titleOf, useUi } from "./state.ts";

const MAC = /Mac|iPhone|iPad/.test(navigator.userAgent);
const MOD = MAC ? "⌘" : "Ctrl";

const KEYS: readonly (readonly [what: string, keys: readonly string[]])[] = [
  ["Send the message", ["Enter"]],
  ["Break the line", ["Shift", "Enter"]],
  ["Write a message", ["/"]],
  ["New chat", [MOD, "Shift", "O"]],
  ["Search the chats", [MOD, "K"]],
  ["Show this help", ["?"]],
  ["Close what is open", ["Esc"]],
];

/** Whichever dialog is open. */
export function Dialogs() {
  const ui = useUi();
  const open = ui.dialog.value;
  if (!open) return null;
  const close = () => {
    ui.dialog.value = null;
  };
  if (open.kind === "help") {
    return (
      <Dialog title="Keyboard shortcuts" onClose={close} cross>
        <dl class="keys">
          {KEYS.map(([what, keys]) => (
            <div key={what}>
              <dt>{what}</dt>
              <dd>
                {keys.map((key) => (
                  <kbd key={key}>{key}</kbd>
                ))}
              </dd>
            </div>
          ))}
        </dl>
      </Dialog>
    );
  }
  const { session } = open;
  const remove = () => {
    close();
    void ui.chat.remove(session.id);
    if (!ui.narrow.value) ui.focusComposer();
  };
  return (
    <Dialog title="Delete this chat?" onClose={close}>
      <p>
        “<bdi>{titleOf(session)}</bdi>” and all its messages will be gone for good. This cannot be
        undone.
      </p>
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="button danger" onClick={remove}>
          Delete
        </button>
      </div>
    </Dialog>
  );
}

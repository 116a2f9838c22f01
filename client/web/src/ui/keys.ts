/** The page's keyboard shortcuts. */
import { COMPOSER_ID, type Ui } from "./state.ts";

/** Begins to listen; the function that is returned ends it. */
export function listenToKeys(ui: Ui): () => void {
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing || dialogOpen() || ui.menu.peek()) return;
    const action = actionOf(event, typing(event.target));
    if (!action) return;
    if (action === "type") {
      // At once, and not prevented: the letter goes to where the focus is when the key is done.
      if (!ui.drawer.peek()) document.getElementById(COMPOSER_ID)?.focus();
      return;
    }
    event.preventDefault();
    switch (action) {
      case "search":
        ui.focusSearch();
        break;
      case "new":
        ui.newChat();
        break;
      case "write":
        ui.drawer.value = false;
        ui.focusComposer();
        break;
      case "help":
        ui.dialog.value = { kind: "help" };
        break;
    }
  };
  document.addEventListener("keydown", onKeyDown);
  return () => document.removeEventListener("keydown", onKeyDown);
}

/** Asked of the document: `ui.dialog` is told of an Escape by an event that comes some time after it. */
function dialogOpen(): boolean {
  return document.querySelector("dialog[open]") !== null;
}

/** `type`: a letter with the focus on nothing that takes text; it is meant for the message. */
export type Action = "search" | "new" | "write" | "help" | "type";

type Keys = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey">;

/** Returns what a key means; null: nothing of ours. */
export function actionOf(keys: Keys, inText: boolean): Action | null {
  const key = keys.key.toLowerCase();
  const mod = (keys.ctrlKey || keys.metaKey) && !keys.altKey;
  if (mod) {
    if (key === "k" && !keys.shiftKey) return "search";
    return key === "o" && keys.shiftKey ? "new" : null;
  }
  // With AltGr some layouts write / and ? in a text; those come with ctrlKey or altKey.
  if (inText || keys.ctrlKey || keys.metaKey || keys.altKey) return null;
  if (key === "/") return "write";
  if (key === "?") return "help";
  return /^[\p{L}\p{N}]$/u.test(key) ? "type" : null;
}

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement) return true;
  return (
    target instanceof HTMLInputElement && target.type !== "radio" && target.type !== "checkbox"
  );
}

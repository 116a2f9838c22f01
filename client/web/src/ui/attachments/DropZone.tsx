/** Takes files that are dropped anywhere on the page, or pasted. */
import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ClipIcon } from "../icons.tsx";
import { COMPOSER_ID, type Ui, useUi } from "../state.ts";
import { dropped, hasFiles, pasted } from "./incoming.ts";

/** While files are over the page the browser tells of it all the time, every half second at least:
 * after so long without a word they are elsewhere, however they went. */
const GONE_MS = 900;

export function DropZone() {
  const ui = useUi();
  const over = useSignal(false);
  useEffect(() => {
    const show = (shown: boolean) => {
      if (shown && !over.peek()) ui.announcer.say("Drop the files to attach them.");
      over.value = shown;
    };
    return listen(ui, show);
  }, [ui, over]);
  const shown = useComputed(() => over.value);
  if (!shown.value) return null;
  return (
    <div class="drop-zone" aria-hidden="true">
      <p>
        <ClipIcon size={28} />
        Drop files to attach them
      </p>
    </div>
  );
}

/** Whether a message can be written now. */
function writable({ chat, dialog }: Ui): boolean {
  const state = chat.current.peek()?.entry.peek().state ?? "open";
  return state === "open" && dialog.peek() === null;
}

function listen(ui: Ui, show: (shown: boolean) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hide = () => {
    clearTimeout(timer);
    show(false);
  };
  const onDragOver = (event: DragEvent) => {
    if (!hasFiles(event.dataTransfer)) return;
    if (event.defaultPrevented) {
      hide(); // Something on the page takes them by itself.
      return;
    }
    event.preventDefault(); // Else the browser leaves the page to show the file.
    const can = writable(ui);
    if (event.dataTransfer) event.dataTransfer.dropEffect = can ? "copy" : "none";
    clearTimeout(timer);
    timer = setTimeout(() => show(false), GONE_MS);
    show(can);
  };
  const onDragLeave = (event: DragEvent) => {
    if (event.relatedTarget === null) hide(); // It has left the window.
  };
  const onDrop = (event: DragEvent) => {
    hide();
    if (event.defaultPrevented || !hasFiles(event.dataTransfer)) return;
    event.preventDefault();
    if (!event.dataTransfer || !writable(ui)) return;
    const { files, folders } = dropped(event.dataTransfer);
    if (folders > 0) ui.chat.tell("Folders cannot be attached, only files.");
    take(ui, files);
  };
  const onPaste = (event: ClipboardEvent) => {
    const { clipboardData: transfer } = event;
    if (event.defaultPrevented || !transfer || !hasFiles(transfer) || !writable(ui)) return;
    if (elsewhere(event.target)) return;
    const files = pasted(transfer, new Date());
    if (files.length > 0) {
      event.preventDefault();
      take(ui, files);
    }
  };
  const off = new AbortController();
  const { signal } = off;
  addEventListener("dragenter", onDragOver, { signal });
  addEventListener("dragover", onDragOver, { signal });
  addEventListener("dragleave", onDragLeave, { signal });
  addEventListener("drop", onDrop, { signal });
  addEventListener("dragend", hide, { signal });
  addEventListener("blur", hide, { signal });
  document.addEventListener("paste", onPaste, { signal });
  return () => {
    off.abort();
    clearTimeout(timer);
  };
}

function take(ui: Ui, files: readonly File[]): void {
  if (files.length === 0) return;
  ui.drawer.value = false;
  ui.chat.attach(files);
  ui.focusComposer();
}

/** Whether something else that takes text has the focus. */
function elsewhere(target: EventTarget | null): boolean {
  const field = target instanceof Element ? target.closest("input, textarea, dialog") : null;
  return field !== null && field.id !== COMPOSER_ID;
}

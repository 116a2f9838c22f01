/** Where messages are written. Its text is the core's draft, which outlives the page. */
import { useComputed } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Chat } from "../core/model.ts";
import { AttachButton } from "./attachments/AttachButton.tsx";
import { DraftFiles, hindrance } from "./attachments/DraftFiles.tsx";
import { readable, room } from "./bytes.ts";
import { SendIcon, StopIcon } from "./icons.tsx";
import { COMPOSER_ID, touchOnly, type Ui, useUi } from "./state.ts";

/** Browsers without it get their height measured. */
const SIZES_ITSELF = typeof CSS !== "undefined" && CSS.supports("field-sizing", "content");

export function Composer() {
  const ui = useUi();
  const { chat } = ui;
  const session = chat.current.value;
  const state = session?.entry.value.state ?? "open";
  const id = session?.key ?? "";

  // Whoever opens a chat wants to write; on a touch screen the keyboard would cover what they opened.
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each session
  useEffect(() => {
    const elsewhere = document.activeElement?.closest("dialog, input, .menu");
    if (!touchOnly() && !elsewhere && !ui.drawer.peek()) ui.focusComposer();
  }, [id]);

  if (state !== "open") {
    return (
      <div class="composer-closed">
        <p id="closed-reason">
          {state === "closing" ? "This chat is being closed." : "This chat is closed."} It can be
          read, not added to.
        </p>
        <button type="button" class="button" onClick={ui.newChat}>
          New chat
        </button>
      </div>
    );
  }
  return (
    <form
      class="composer"
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        submit(ui);
      }}
    >
      <DraftFiles />
      <div class="composer-row">
        <AttachButton />
        <Field />
        <Buttons />
      </div>
      <Hindrance />
      <Size />
    </form>
  );
}

/** Sends the draft, where there is one that may be sent; says why not where its files are why. */
function submit({ chat, announcer, focusComposer }: Ui): void {
  const text = chat.draft.value;
  if (isEmpty(chat) || room(text, chat.maxTextBytes.value).kind === "over") return;
  const why = hindrance(chat.attachments.value);
  if (why) {
    announcer.say(`Not sent yet: ${why}`);
    return;
  }
  chat.send(text);
  focusComposer();
}

/** Whether there is nothing to send, neither text nor files. */
function isEmpty(chat: Chat): boolean {
  return chat.draft.value.trim() === "" && chat.attachments.value.length === 0;
}

function Field() {
  const ui = useUi();
  const { chat } = ui;
  const ref = useRef<HTMLTextAreaElement>(null);
  const text = chat.draft.value;
  const over = room(text, chat.maxTextBytes.value).kind === "over";

  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is what is measured
  useLayoutEffect(() => {
    const field = ref.current;
    if (SIZES_ITSELF || !field) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }, [text]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    // 229: Safari ends a composition before its Enter.
    if (event.isComposing || event.keyCode === 229) return;
    if (touchOnly() && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    submit(ui);
  };

  return (
    <textarea
      ref={ref}
      id={COMPOSER_ID}
      rows={1}
      value={text}
      placeholder={`Message ${chat.app}`}
      aria-label={`Message ${chat.app}`}
      aria-describedby="composer-size"
      aria-invalid={over}
      autocomplete="off"
      dir="auto"
      enterkeyhint={touchOnly() ? "enter" : "send"}
      onInput={(event) => chat.setDraft(event.currentTarget.value)}
      onKeyDown={onKeyDown}
    />
  );
}

/** Why the message is not sent yet, where its files are why. */
function Hindrance() {
  const { chat } = useUi();
  const why = useComputed(() => hindrance(chat.attachments.value)).value;
  return (
    <p id="composer-hindrance" class="composer-size" role="status">
      {why}
    </p>
  );
}

function Size() {
  const { chat } = useUi();
  const max = chat.maxTextBytes.value;
  const state = room(chat.draft.value, max);
  return (
    <p id="composer-size" class="composer-size" role="status" data-kind={state.kind}>
      {state.kind === "over" && `Too long by ${readable(state.bytes - max)}`}
      {state.kind === "near" && `${readable(max - state.bytes)} left`}
    </p>
  );
}

function Buttons() {
  const { chat, announcer, focusComposer } = useUi();
  const session = chat.current.value;
  const busy = session?.busy.value ?? false;
  const stopping = session?.stopping.value ?? false;
  const sendable = useComputed(
    () => !isEmpty(chat) && room(chat.draft.value, chat.maxTextBytes.value).kind !== "over",
  );
  const empty = useComputed(() => isEmpty(chat)).value;
  const hindered = useComputed(() => hindrance(chat.attachments.value) !== "").value;
  return (
    <div class="composer-buttons">
      {busy && (
        <button
          type="button"
          class="round stop"
          aria-label={stopping ? "Stopping" : "Stop"}
          title={stopping ? "Stopping…" : "Stop"}
          aria-disabled={stopping}
          onClick={() => {
            if (stopping) return;
            void session?.stop();
            announcer.say("Stopping.");
            // The button leaves, and would take the focus with it.
            if (!touchOnly()) focusComposer();
          }}
        >
          {stopping ? <span class="spinner" /> : <StopIcon />}
          {stopping && <span class="round-label">Stopping…</span>}
        </button>
      )}
      {(!busy || !empty) && (
        <button
          type="submit"
          class="round send"
          aria-label="Send"
          title="Send"
          disabled={!sendable.value}
          // It can be reached all the same, and says why.
          aria-disabled={hindered}
          aria-describedby={hindered ? "composer-hindrance" : undefined}
          // A click must not take the focus, and with it a phone's keyboard, away from the text.
          onMouseDown={(event) => event.preventDefault()}
        >
          <SendIcon />
        </button>
      )}
    </div>
  );
}

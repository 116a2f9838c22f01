import { useComputed, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { MessageItem, OpenSession } from "../core/model.ts";
import { Attachments } from "./attachments/Attachments.tsx";
import { CopyButton } from "./CopyButton.tsx";
import { useFocusKept } from "./focus.ts";
import { RetryIcon } from "./icons.tsx";
import { Prose } from "./Prose.tsx";
import { touchOnly, useUi } from "./state.ts";

interface Props {
  readonly item: MessageItem;
  readonly session: OpenSession;
}

/** A longer text of a person is shown folded, in UTF-16 units and in lines. */
const LONG = 1600;
const LONG_LINES = 20;

export function UserMessage({ item, session }: Props) {
  const delivery = item.delivery.value;
  const text = item.text.value;
  const files = item.attachments.value.length > 0;
  const waits = useComputed(() => waitsForAnswer(item, session)).value;
  const ref = useRef<HTMLElement>(null);
  const { focusComposer } = useUi();
  useFocusKept(ref, () => !touchOnly() && focusComposer());
  return (
    <article ref={ref} class="entry user" data-delivery={delivery} data-files={files || undefined}>
      <h2 class="sr-only">You said</h2>
      <Attachments item={item} />
      {text !== "" && <UserText text={text} />}
      {delivery === "sending" && (
        <p class="delivery late" role="status">
          Sending…
        </p>
      )}
      {delivery === "sent" && waits && (
        <p class="delivery" role="status">
          Waits until you have answered
        </p>
      )}
      {delivery === "failed" && <NotSent item={item} session={session} />}
      {delivery !== "failed" && (
        <div class="tools">
          {text !== "" && <CopyButton label="Copy your message" text={() => item.text.peek()} />}
          <Time of={item.createTime} />
        </div>
      )}
    </article>
  );
}

/** Whether a message comes behind a question: the app does not see it before that has ended. */
function waitsForAnswer(item: MessageItem, session: OpenSession): boolean {
  const [first] = session.prompts.waiting.value;
  if (!first) return false;
  const items = session.items.value;
  for (let at = items.length - 1; at >= 0; at--) {
    if (items[at] === item) return true;
    if (items[at] === first) return false;
  }
  return false;
}

function UserText({ text }: { readonly text: string }) {
  const open = useSignal(false);
  const long = text.length > LONG || lines(text) > LONG_LINES;
  return (
    <div class="bubble" data-folded={(long && !open.value) || undefined}>
      <div class="bubble-text" dir="auto">
        {text}
      </div>
      {long && (
        <button
          type="button"
          class="fold"
          aria-expanded={open.value}
          onClick={() => {
            open.value = !open.value;
          }}
        >
          {open.value ? "Show less" : "Show all"}
        </button>
      )}
    </div>
  );
}

function lines(text: string): number {
  let count = 1;
  for (
    let at = text.indexOf("\n");
    at >= 0 && count <= LONG_LINES;
    at = text.indexOf("\n", at + 1)
  ) {
    count++;
  }
  return count;
}

function NotSent({ item, session }: Props) {
  const { chat, focusComposer } = useUi();
  const edit = () => {
    const text = session.discard(item.key);
    const draft = chat.draft.peek();
    chat.setDraft(draft.trim() && text ? `${text}\n\n${draft}` : text || draft);
    focusComposer();
  };
  return (
    <div class="not-sent" role="alert">
      <p>Not sent: {item.problem.value || "the reason is not known."}</p>
      <div>
        <button type="button" class="link-button" onClick={() => session.resend(item.key)}>
          <RetryIcon size={15} />
          Retry
        </button>
        <button type="button" class="link-button" onClick={edit}>
          Edit
        </button>
      </div>
    </div>
  );
}

export function AppMessage({ item }: Props) {
  const { chat } = useUi();
  const streaming = item.streaming.value;
  return (
    <article class="entry app" data-streaming={streaming || undefined} aria-busy={streaming}>
      <h2 class="sr-only">{chat.app} said</h2>
      <AppText item={item} />
      <Attachments item={item} />
      {item.interrupted.value && (
        <p class="interrupted">
          <span>Interrupted</span>
        </p>
      )}
      {!streaming && (
        <div class="tools">
          <CopyButton label="Copy the answer" text={() => item.text.peek()} />
          <Time of={item.createTime} />
        </div>
      )}
    </article>
  );
}

/** The only component that a delta renders. */
function AppText({ item }: { readonly item: MessageItem }) {
  return <Prose text={item.text.value} streaming={item.streaming.value} />;
}

function Time({ of }: { readonly of: Date | null }) {
  if (!of || Number.isNaN(of.getTime())) return null;
  return (
    <time dateTime={of.toISOString()} title={of.toLocaleString()}>
      {of.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" })}
    </time>
  );
}

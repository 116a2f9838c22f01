/** A question of the app: while it is open with its controls, then with what came of it. */
import { useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { OpenSession, PromptItem } from "../../core/model.ts";
import { useFocusKept } from "../focus.ts";
import { AlertIcon, RetryIcon } from "../icons.tsx";
import { Prose } from "../Prose.tsx";
import { useUi } from "../state.ts";
import { ApprovalAsk } from "./ApprovalAsk.tsx";
import { ChoiceAsk } from "./ChoiceAsk.tsx";
import { Countdown } from "./Countdown.tsx";
import { FileAsk } from "./FileAsk.tsx";
import { Outcome } from "./Outcome.tsx";
import { useRest } from "./rest.ts";
import { lead } from "./words.ts";

export interface PromptProps {
  readonly item: PromptItem;
  readonly session: OpenSession;
}

export function PromptCard({ item, session }: PromptProps) {
  const { chat } = useUi();
  const ref = useRef<HTMLElement>(null);
  const { status, question } = item;
  const open = status.value === "open";
  // Whatever takes a control away renders the card, too.
  void item.problem.value;
  void item.upload.value?.state.value.kind;
  useFocusKept(ref);
  useRest(ref, open);
  return (
    <article
      ref={ref}
      id={cardId(item)}
      class="entry prompt"
      tabIndex={-1}
      data-kind={question.kind}
      data-status={status.value}
      aria-busy={item.answering.value !== null}
    >
      <h2 class="sr-only">{chat.app} asks</h2>
      <div class="card prompt-card">
        {lead(question) && (
          <p class="prompt-lead" dir="auto">
            {lead(question)}
          </p>
        )}
        {item.message && <Prose text={item.message} streaming={false} />}
        {open ? <Open item={item} session={session} /> : <Outcome item={item} />}
      </div>
    </article>
  );
}

/** The element of a prompt in the conversation, or above the composer. */
export function cardId(item: PromptItem): string {
  return `prompt-${item.promptId}`;
}

function Open({ item, session }: PromptProps) {
  const { question } = item;
  const props = { item, session };
  return (
    <>
      {question.kind === "file" && <FileAsk {...props} accept={question.accept} />}
      {question.kind === "approval" && <ApprovalAsk {...props} question={question} />}
      {question.kind === "choice" && <ChoiceAsk {...props} options={question.options} />}
      {(question.kind === "integration" || question.kind === "unknown") && (
        <p class="prompt-unable">This page cannot answer this. You may go on without it.</p>
      )}
      <Problem {...props} />
      <Foot {...props} />
    </>
  );
}

function Problem({ item, session }: PromptProps) {
  const problem = item.problem.value;
  return (
    <div role="alert">
      {problem && (
        <p class="prompt-problem">
          <AlertIcon size={17} />
          <span>Not answered: {problem}</span>
          <button
            type="button"
            class="button quiet"
            onClick={() => void session.prompts.retry(item)}
          >
            <RetryIcon size={16} />
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

/** Below the answers: how long there is, and the way out. Escape is none: it is hit by accident. */
function Foot({ item, session }: PromptProps) {
  const answering = item.answering.value;
  const closed = useComputed(() => session.entry.value.state === "closed").value;
  return (
    <div class="prompt-foot">
      <p class="prompt-state">
        {answering ? (
          <span class="late" role="status">
            <span class="spinner" />
            {answering.kind === "dismiss" ? "Dismissing…" : "Answering…"}
          </span>
        ) : (
          <Countdown until={item.expireTime} />
        )}
      </p>
      <button
        type="button"
        class="button quiet"
        disabled={closed}
        aria-disabled={answering !== null || undefined}
        onClick={() => void session.prompts.answer(item, { kind: "dismiss" })}
      >
        Dismiss
      </button>
    </div>
  );
}

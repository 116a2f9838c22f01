/** Yes or no, in the app's words. */
import type { Question } from "../../core/model.ts";
import type { PromptProps } from "./PromptCard.tsx";

interface Props extends PromptProps {
  readonly question: Extract<Question, { kind: "approval" }>;
}

export function ApprovalAsk({ item, session, question }: Props) {
  const answering = item.answering.value;
  const button = (approved: boolean) => (
    <button
      type="button"
      dir="auto"
      class={approved ? "button primary" : "button"}
      data-picked={(answering?.kind === "approval" && answering.approved === approved) || undefined}
      aria-disabled={answering !== null || undefined}
      onClick={() => void session.prompts.answer(item, { kind: "approval", approved })}
    >
      {approved ? question.approve : question.reject}
    </button>
  );
  return (
    <div class="prompt-answers">
      {button(true)}
      {button(false)}
    </div>
  );
}

/** What prompts are called and what is said of them. */
import type { PromptItem, Question } from "../../core/model.ts";

/** A line above the question, where the question does not say enough by itself. */
export function lead(question: Question): string {
  return question.kind === "integration" ? `Connect ${question.name}` : "";
}

/** What the answer was; empty where it is none that can be said in words. */
export function answerWords(item: PromptItem): string {
  const answer = item.answer.value;
  const { question } = item;
  if (answer?.kind === "approval" && question.kind === "approval") {
    return answer.approved ? question.approve : question.reject;
  }
  if (answer?.kind === "choice" && question.kind === "choice") {
    return question.options[answer.option] ?? `Option ${answer.option + 1}`;
  }
  return answer?.kind === "file" ? (answer.file.name ?? "a file") : "";
}

/** How a prompt has ended, a sentence; empty while it is open. */
export function endWords(item: PromptItem): string {
  switch (item.status.value) {
    case "open":
      return "";
    case "answered":
      return `Answered: ${answerWords(item) || "done"}`;
    case "dismissed":
      return "Dismissed";
    case "expired":
      return "Not answered in time";
    case "withdrawn":
      return "Not needed any more";
  }
}

/** What an answer that came too late is told. */
export function lateWords(item: PromptItem): string {
  const person = item.status.value === "answered" || item.status.value === "dismissed";
  return person
    ? "It was answered on another device first. That answer counts."
    : "It had ended before your answer came.";
}

/** What a question is in a line, for a reader or a label: without marks. */
export function questionLine(item: PromptItem, most = 200): string {
  const text = item.message
    .replace(/[*_`#>]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
  const whole = [lead(item.question), text].filter(Boolean).join(": ");
  return whole.length > most ? `${whole.slice(0, most - 1).trimEnd()}…` : whole;
}

/** Answers prompts: exactly once in effect, however often the line fails on the way. */

import { batch } from "@preact/signals";
import type { AnswerPromptResponse } from "../wire.ts";
import { type Api, ApiError } from "./api.ts";
import { report } from "./defect.ts";
import type { Env } from "./env.ts";
import type { PromptAnswer, PromptReply } from "./model.ts";
import type { PromptEntry, Prompts } from "./prompts.ts";
import { delay } from "./waiting.ts";

/** Repetitions before the person is told; about a minute. */
const RETRIES = 8;

/** What answering needs of its surroundings. */
export interface AnswerSurroundings {
  readonly env: Env;
  readonly api: Api;
  readonly prompts: Prompts;
  /** Nobody is signed in: returns when somebody is. */
  signIn(): Promise<void>;
}

/**
 * Gives an answer. It is shown as on its way at once; where it cannot be delivered, `problem` says
 * why, and the same answer may be given again under the same request id.
 */
export async function answerPrompt(
  surroundings: AnswerSurroundings,
  entry: PromptEntry,
  reply: PromptReply,
): Promise<void> {
  if (entry.status.peek() !== "open" || entry.answering.peek() !== null) {
    return;
  }
  const { env } = surroundings;
  const again = entry.tried && sameReply(entry.tried.reply, reply) ? entry.tried : null;
  const { requestId } = again ?? { requestId: env.uuid() };
  entry.tried = { reply, requestId };
  batch(() => {
    entry.answering.value = reply;
    entry.problem.value = "";
  });
  const answered = await deliver(surroundings, entry, reply, requestId);
  batch(() => {
    if (typeof answered === "string") {
      entry.problem.value = answered;
    } else if (answered === null) {
      entry.late.value = !outcomeIs(entry, reply);
    } else if (answered.prompt) {
      surroundings.prompts.take(answered.prompt, entry.sessionId, entry.invocationId, entry, entry);
      entry.late.value = answered.accepted !== true;
    }
    if (entry.status.peek() === "open" && entry.problem.peek() === "") {
      entry.problem.value = "The server has not taken the answer."; // As no sidecar says it.
    }
    entry.answering.value = null;
  });
}

/** Returns what was answered; null where the prompt ended meanwhile; a sentence where it failed. */
async function deliver(
  surroundings: AnswerSurroundings,
  entry: PromptEntry,
  reply: PromptReply,
  requestId: string,
): Promise<AnswerPromptResponse | null | string> {
  for (let attempt = 0; ; attempt++) {
    let problem: string;
    try {
      return await surroundings.api.answerPrompt(entry.promptId, bodyOf(reply), requestId);
    } catch (error) {
      problem = await refused(surroundings, error, attempt);
    }
    if (entry.status.peek() !== "open") {
      return null;
    }
    if (problem !== "") {
      return problem;
    }
  }
}

/** Waits until it is worth another attempt; returns a sentence where none is. */
async function refused(
  { env, api, signIn }: AnswerSurroundings,
  error: unknown,
  attempt: number,
): Promise<string> {
  if (!(error instanceof ApiError)) {
    report(error); // A defect.
    return "Something went wrong.";
  }
  if (attempt < RETRIES && error.status === 401) {
    await signIn();
    return "";
  }
  if (attempt < RETRIES && error.passing) {
    await api.waiting.wait(delay(attempt, env.random(), error.retryAfterMs));
    return "";
  }
  return error.sentence;
}

function bodyOf(reply: PromptReply): Record<string, unknown> {
  switch (reply.kind) {
    case "file":
      return { file_id: reply.file.file_id };
    case "approval":
      return { approved: reply.approved };
    case "choice":
      return { option: reply.option };
    case "dismiss":
      return { dismissed: true };
  }
}

/** Whether a prompt has ended in the way that this tab wanted. */
function outcomeIs(entry: PromptEntry, reply: PromptReply): boolean {
  if (reply.kind === "dismiss") {
    return entry.status.peek() === "dismissed";
  }
  const answer: PromptAnswer | null = entry.answer.peek();
  return answer !== null && sameReply(answer, reply);
}

function sameReply(a: PromptReply, b: PromptReply): boolean {
  return a.kind === b.kind && JSON.stringify(bodyOf(a)) === JSON.stringify(bodyOf(b));
}

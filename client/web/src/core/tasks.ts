/** Tasks: invocations that run beside a session's lane, so that they are no turn of it. */

import type { Block, InvocationKind } from "../wire.ts";

const ENDS: readonly unknown[] = ["completed", "failed", "cancelled", "timed_out"];

/** Whether work of a kind runs beside the lane: nobody waits for it in the conversation. */
export function isBeside(kind: InvocationKind | undefined): boolean {
  return kind === "INVOCATION_KIND_TASK" || kind === "INVOCATION_KIND_SCHEDULE";
}

/** Whether an invocation is a task's. */
export function isTask(invocationId: string): boolean {
  return invocationId.startsWith("tsk_");
}

/** The task that a block is the card of, and whether it has ended; null: it is of none. */
export function cardOf({ type, block_id: id = "", payload }: Block): TaskCard | null {
  const status = (payload as { readonly status?: unknown } | null | undefined)?.status;
  return type === "task" && isTask(id) ? { id, ended: ENDS.includes(status) } : null;
}

export interface TaskCard {
  readonly id: string;
  readonly ended: boolean;
}

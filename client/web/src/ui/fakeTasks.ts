/** Made-up cards of tasks; not part of the build. */
import type { TimelineEntry } from "../core/model.ts";
import { block, message } from "./fakeItems.ts";

type Fields = Readonly<Record<string, unknown>>;

export function task(fields: Fields) {
  return block("task", {
    task_id: "tsk_1",
    name: "sync_mailbox",
    status: "running",
    attempt: 1,
    failures: 0,
    retries: 2,
    ...fields,
  });
}

const soon = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString();
const far = { progress: 0.42, progress_message: "420 of 1,000 messages" };

export function waitingTasks(): TimelineEntry[] {
  return [
    message("user", "Sync my mailbox"),
    task({ status: "scheduled", message: "Weekly report", start_time: soon(3 * 86_400) }),
    task({ status: "scheduled", message: "Reminder", start_time: soon(2 * 3600 + 60) }),
    task({ status: "scheduled", start_time: soon(312) }),
    task({ status: "pending", message: "Mailbox sync started" }),
    task({ message: "Mailbox sync started" }),
    task({ message: "Mailbox sync started", ...far }),
    task({ failures: 1, attempt: 2, progress: 0 }),
    task({ status: "retrying", failures: 1, start_time: soon(14), ...far }),
  ];
}

export function endedTasks(): TimelineEntry[] {
  const failed = { failures: 3, attempt: 3, reference_id: "ref_made_up_three" };
  const done = { status: "completed", progress: 1 };
  return [
    message("user", "And the others?"),
    task({ ...done, message: "Mailbox sync", result: "312 messages, 4 of them new." }),
    task({ ...done, message: "Count", result: 42 }),
    task({ ...done, result: { synced: 312, new: ["a", "b"], skipped: { spam: 7 } } }),
    task({ ...done, message: "Long text", result: "A line of a long result.\n".repeat(60) }),
    task({ ...done, message: "Nothing to tell" }),
    task({ status: "failed", reason: "HANDLER_ERROR", message: "Sync", ...failed, ...far }),
    task({ status: "cancelled", reason: "CANCELLED", message: "Mailbox sync", ...far }),
    task({ status: "timed_out", reason: "DEADLINE", message: "Mailbox sync", ...failed }),
    task({
      message: `A message that is very long, ${"and goes on, ".repeat(9)}${"x".repeat(80)}`,
      ...far,
      progress_message: "y".repeat(120),
    }),
  ];
}

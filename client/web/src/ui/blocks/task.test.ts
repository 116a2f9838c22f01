import fc from "fast-check";
import { expect, test } from "vitest";
import {
  lasts,
  percent,
  preview,
  reachedWords,
  reasonWords,
  statusWords,
  type Task,
  taskOf,
  until,
} from "./task.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

function task(fields: Readonly<Record<string, unknown>> = {}): Task {
  const found = taskOf({ name: "sync_mailbox", status: "running", ...fields });
  if (!found) throw new Error("it is no task");
  return found;
}

test("no payload breaks it", () => {
  const anything = fc.dictionary(
    fc.constantFrom("name", "message", "status", "progress", "start_time", "result", "failures"),
    fc.oneof(fc.jsonValue(), fc.constantFrom("sync", "running", "failed", "retrying"), fc.date()),
  );
  fc.assert(
    fc.property(anything, (raw) => {
      const found = taskOf(raw);
      if (!found) return;
      expect(`${statusWords(found)}${reasonWords(found)}${reachedWords(found)}`).toBeTruthy();
      if (found.result !== undefined) expect(typeof preview(found.result)).toBe("string");
      if (found.progress !== null) expect(percent(found.progress)).toMatch(/^\d{1,3}%$/);
      found.start?.toISOString();
    }),
  );
});

test("it is called by what is said about it, or by its name", () => {
  expect(task().title).toBe("Sync mailbox");
  expect(task({ message: "Mailbox sync started" }).title).toBe("Mailbox sync started");
  expect(taskOf({ name: "sync", status: "done" })).toBeNull();
  expect(taskOf({ name: "sync", status: "constructor" })).toBeNull();
  expect(taskOf({ status: "running" })).toBeNull();
});

test.each([
  [{ status: "scheduled" }, "Scheduled"],
  [{ status: "pending" }, "Waiting to start"],
  [{ status: "running" }, "Running"],
  [{ status: "running", failures: 1, retries: 2 }, "Running (try 2 of 3)"],
  [{ status: "retrying", failures: 2, retries: 2 }, "Trying again (try 3 of 3)"],
  [{ status: "completed", failures: 1, retries: 2 }, "Completed"],
  [{ status: "failed", failures: 1 }, "Failed"],
  [{ status: "failed", failures: 3, retries: 2 }, "Failed after 3 tries"],
  [{ status: "cancelled", failures: 3, retries: 9 }, "Cancelled"],
  [{ status: "timed_out", failures: 2, retries: 1 }, "Timed out after 2 tries"],
])("its status is in words: %j", (fields, words) => {
  expect(statusWords(task(fields))).toBe(words);
});

test.each([
  [{ status: "failed", reason: "HANDLER_ERROR" }, "Something went wrong."],
  [{ status: "failed", reason: "constructor" }, "Something went wrong."],
  [{ status: "failed", reason: "LEASE_LOST" }, "The app went away in the middle of it."],
  [{ status: "timed_out", reason: "DEADLINE" }, "It took too long."],
  [{ status: "cancelled", reason: "CANCELLED" }, ""],
  [{ status: "cancelled", reason: "SESSION_CLOSED" }, "The chat was closed."],
  [{ status: "retrying", reason: "DEADLINE" }, ""],
])("why it did not complete is told neutrally: %j", (fields, words) => {
  expect(reasonWords(task(fields))).toBe(words);
});

test("what it reached is told where it came to a halt", () => {
  const far = { progress: 0.4, progress_message: "40 of 100" };
  expect(reachedWords(task({ status: "cancelled", ...far }))).toBe("It was at 40%");
  expect(reachedWords(task({ status: "failed", progress: 0 }))).toBe("It was at 0%");
  expect(reachedWords(task({ status: "failed" }))).toBe("");
  expect(reachedWords(task({ status: "completed", ...far }))).toBe("");
});

test("a progress is a part of the whole, and all of it only at its end", () => {
  expect([0, 0.004, 0.29, 0.999, 1].map(percent)).toEqual(["0%", "0%", "29%", "99%", "100%"]);
  expect([-1, 7, Number.NaN, "0.5", null].map((progress) => task({ progress }).progress)).toEqual([
    0,
    1,
    null,
    null,
    null,
  ]);
});

test.each([
  [-5, "at any moment"],
  [1, "in 1 second"],
  [59_001, "in 60 seconds"],
  [MINUTE, "in 1 minute"],
  [5.4 * MINUTE, "in 5 minutes"],
  [89 * MINUTE, "in 89 minutes"],
  [2 * HOUR, "in 2 hours"],
  [35 * HOUR, "in 35 hours"],
  [72 * HOUR, "in 3 days"],
])("when it begins is told from now: %d ms", (ms, words) => {
  expect(until(ms)).toBe(words);
});

test("what is told of the time is never long out of date", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 * HOUR }), (ms) => {
      expect(lasts(ms)).toBeGreaterThan(0);
      expect(lasts(ms)).toBeLessThanOrEqual(ms < 2 * MINUTE ? SECOND : MINUTE / 4);
    }),
  );
});

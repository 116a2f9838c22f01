/** What the card of a task carries, and the words for it. */
import { field, humanised, line, type Payload } from "./payload.ts";

const STATUSES = [
  "scheduled",
  "pending",
  "running",
  "retrying",
  "completed",
  "failed",
  "cancelled",
  "timed_out",
] as const;
const MESSAGE_CHARS = 1000;

export type TaskStatus = (typeof STATUSES)[number];

export interface Task {
  /** What is said about it, or its name. */
  readonly title: string;
  readonly status: TaskStatus;
  /** 0 to 1; null: it has not said. */
  readonly progress: number | null;
  /** What it said about its progress. */
  readonly said: string;
  /** Undefined: there is none, or none that fits into a card. */
  readonly result: unknown;
  readonly referenceId: string;
  readonly reason: string;
  /** When it begins, or begins again. */
  readonly start: Date | null;
  /** Tries that failed. */
  readonly failures: number;
  readonly retries: number;
}

/** Returns the task; null where a card of it would not say anything. */
export function taskOf(payload: Payload): Task | null {
  const text = (name: string, most?: number) => line(field(payload, name), most);
  const given = field(payload, "status");
  const status = STATUSES.find((known) => known === given);
  const title = text("message", MESSAGE_CHARS) || humanised(text("name"));
  if (!status || !title) return null;
  const start = new Date(text("start_time"));
  const result = field(payload, "result");
  return {
    title,
    status,
    progress: fraction(field(payload, "progress")),
    said: text("progress_message", MESSAGE_CHARS),
    result: result === null ? undefined : result,
    referenceId: text("reference_id"),
    reason: text("reason"),
    start: Number.isNaN(start.getTime()) ? null : start,
    failures: count(field(payload, "failures")),
    retries: count(field(payload, "retries")),
  };
}

/** Whether nothing more comes of it. */
export function hasEnded({ status }: Task): boolean {
  return ["completed", "failed", "cancelled", "timed_out"].includes(status);
}

function fraction(value: unknown): number | null {
  if (typeof value !== "number" || Number.isNaN(value)) return null;
  return Math.min(Math.max(value, 0), 1);
}

function count(value: unknown): number {
  return typeof value === "number" && value > 0 ? Math.floor(value) : 0;
}

/** A part as a person reads it: never 100% before it is all. */
export function percent(progress: number): string {
  return `${Math.floor(progress * 100 + 1e-9)}%`;
}

const SAID: Record<TaskStatus, string> = {
  scheduled: "Scheduled",
  pending: "Waiting to start",
  running: "Running",
  retrying: "Trying again",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  timed_out: "Timed out",
};

/** How far it is, in words; when it begins is said apart. */
export function statusWords({ status, failures, retries }: Task): string {
  const words = SAID[status];
  if (failures > 0 && ["pending", "running", "retrying"].includes(status)) {
    return `${words} (try ${failures + 1} of ${Math.max(retries, failures) + 1})`;
  }
  if (failures > 1 && (status === "failed" || status === "timed_out")) {
    return `${words} after ${failures} tries`;
  }
  return words;
}

const REASONS: Readonly<Record<string, string>> = {
  ATTEMPTS_EXHAUSTED: "The app went away in the middle of it.",
  LEASE_LOST: "The app went away in the middle of it.",
  DEADLINE: "It took too long.",
  SESSION_CLOSED: "The chat was closed.",
};

/** Why it did not complete, a sentence; empty where there is nothing to be said. */
export function reasonWords({ status, reason }: Task): string {
  if (!["failed", "cancelled", "timed_out"].includes(status)) return "";
  if (Object.hasOwn(REASONS, reason)) return REASONS[reason] ?? "";
  return status === "failed" ? "Something went wrong." : "";
}

/** How far it was when it came to a halt, short of its end; empty where it has not said. */
export function reachedWords({ status, progress }: Task): string {
  return status === "completed" || progress === null ? "" : `It was at ${percent(progress)}`;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How long it is until then, as "in 5 minutes". */
export function until(ms: number): string {
  if (ms <= 0) return "at any moment";
  if (ms < MINUTE) return inUnits(Math.ceil(ms / SECOND), "second");
  if (ms < 1.5 * HOUR) return inUnits(Math.round(ms / MINUTE), "minute");
  if (ms < 1.5 * DAY) return inUnits(Math.round(ms / HOUR), "hour");
  return inUnits(Math.round(ms / DAY), "day");
}

/** How long what `until` says stays true, at the most, in milliseconds. */
export function lasts(ms: number): number {
  return ms < 2 * MINUTE ? ms % SECOND || SECOND : MINUTE / 4;
}

function inUnits(number: number, unit: string): string {
  return `in ${number} ${unit}${number === 1 ? "" : "s"}`;
}

/** A result in a line, for where it is folded. */
export function preview(result: unknown): string {
  return line(typeof result === "string" ? result : JSON.stringify(result), 80);
}

/** The card of a background task. The sidecar keeps it current; it is shown where it was first. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { OpenSession } from "../../core/model.ts";
import { AlertIcon, BanIcon, CheckIcon, ClockIcon, RetryIcon } from "../icons.tsx";
import { clock } from "../prompts/Countdown.tsx";
import { Reference } from "../Reference.tsx";
import { useUi } from "../state.ts";
import { line } from "./payload.ts";
import {
  hasEnded,
  lasts,
  percent,
  preview,
  reachedWords,
  reasonWords,
  statusWords,
  type Task,
  type TaskStatus,
  until,
} from "./task.ts";

/** A longer text is folded. */
const SHORT = 600;
/** A time that is further away is told as a time too. */
const FAR_MS = 3_600_000;

interface Props {
  readonly task: Task;
  readonly session: OpenSession;
}

export function TaskBlock({ task, session }: Props) {
  const { title, status, said } = task;
  useAnnouncement(task);
  const why = reasonWords(task);
  // A closed chat takes no more news: this is how far it was then.
  const last = !hasEnded(task) && session.entry.value.state === "closed";
  const bar = status === "running" && !last;
  const waits = status === "scheduled" || status === "retrying";
  const reached = bar ? "" : reachedWords(task);
  const told = status === "completed" ? "" : said;
  return (
    <article
      class="card task"
      tabIndex={-1}
      data-status={status}
      aria-label={`Task: ${line(title)}`}
    >
      <TaskIcon status={status} last={last} />
      <div class="task-body">
        <p class="card-title" dir="auto">
          {title}
        </p>
        <p class="task-status">
          <span>{statusWords(task)}</span>
          {last && " when the chat was closed"}
          {!last && waits && <Start at={task.start} />}
        </p>
        {bar && <Bar task={task} />}
        {why && <p class="task-said">{why}</p>}
        {(reached || told) && (
          <p class="task-said" dir="auto">
            {reached}
            {reached && told && ": "}
            {reached ? <bdi>{told}</bdi> : told}
          </p>
        )}
        <Reference id={task.referenceId} />
        {status === "completed" && <Result value={task.result} />}
      </div>
    </article>
  );
}

/** Says what has become of it, and not how far it is at every step. */
function useAnnouncement(task: Task): void {
  const { announcer } = useUi();
  const { status } = task;
  const known = useRef(status);
  // biome-ignore lint/correctness/useExhaustiveDependencies: of a change of the status alone
  useEffect(() => {
    if (known.current === status) return;
    known.current = status;
    announcer.say(`${line(task.title, 120)}: ${statusWords(task)}.`);
  }, [status]);
}

function TaskIcon({ status, last }: { readonly status: TaskStatus; readonly last: boolean }) {
  return (
    <span class="task-icon" aria-hidden="true">
      {status === "running" && (last ? <ClockIcon size={18} /> : <span class="spinner" />)}
      {(status === "scheduled" || status === "timed_out") && <ClockIcon size={18} />}
      {status === "retrying" && <RetryIcon size={17} />}
      {status === "completed" && <CheckIcon size={17} />}
      {status === "failed" && <AlertIcon size={18} />}
      {status === "cancelled" && <BanIcon size={18} />}
    </span>
  );
}

/** Without a progress it runs to and fro. */
function Bar({ task: { title, progress, said } }: { readonly task: Task }) {
  const part = progress === null ? undefined : percent(progress);
  return (
    <div class="task-progress">
      <progress
        class="task-bar"
        aria-label={`Progress of ${line(title)}`}
        aria-valuetext={part && (said ? `${part}, ${said}` : part)}
        max={100}
        value={part && Number.parseInt(part, 10)}
      />
      {part !== undefined && (
        <span class="task-percent" aria-hidden="true">
          {part}
        </span>
      )}
    </div>
  );
}

/** When it begins, kept current. */
function Start({ at }: { readonly at: Date | null }) {
  const beat = useSignal(0);
  const time = at?.getTime() ?? Number.NaN;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = () => {
      beat.value += 1;
      const rest = time - Date.now();
      if (rest > 0) timer = setTimeout(tick, lasts(rest));
    };
    tick();
    return () => clearTimeout(timer);
  }, [time, beat]);
  // Read, so that each beat writes the words anew.
  if (!at || beat.value < 0) return null;
  const rest = time - Date.now();
  return (
    <>
      {/* A line does not begin with the dot. */}
      {"\u00a0· "}
      <time dateTime={at.toISOString()} title={at.toLocaleString()}>
        {until(rest)}
        {rest > FAR_MS && `, ${clock(at)}`}
      </time>
    </>
  );
}

function Result({ value }: { readonly value: unknown }) {
  if (value === undefined || value === "") return null;
  if (typeof value === "boolean") return <p class="task-result">{value ? "Yes" : "No"}</p>;
  if (typeof value === "number") return <p class="task-result">{String(value)}</p>;
  const text = typeof value === "string";
  if (text && value.length <= SHORT) {
    return (
      <p class="task-result" dir="auto">
        {value}
      </p>
    );
  }
  // What is written for machines goes from left to right.
  const dir = text ? "auto" : "ltr";
  return (
    <details class="task-result">
      <summary>
        <span class="task-folded">
          <span>Result</span> <code dir={dir}>{preview(value)}</code>
        </span>
      </summary>
      <pre dir={dir}>{text ? value : JSON.stringify(value, null, 2)}</pre>
    </details>
  );
}

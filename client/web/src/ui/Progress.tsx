/** What the app does meanwhile: its status lines, or dots while nothing of the answer is there. */
import { useComputed } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import type { OpenSession, StatusLine } from "../core/model.ts";
import { HandIcon } from "./icons.tsx";
import { useUi } from "./state.ts";

/** A streaming message is among the newest items. */
const RECENT = 12;

interface Props {
  readonly session: OpenSession;
  /** Called when the height changed. */
  readonly onGrow: () => void;
}

export function Progress({ session, onGrow }: Props) {
  const { chat } = useUi();
  const waiting = session.prompts.waiting.value;
  // Who waits for the person does nothing else, whatever was said of it before.
  const asking = new Set(waiting.map((item) => item.invocationId));
  const lines = session.statusLines.value.filter((line) => !asking.has(line.invocationId));
  const awaited = useComputed(
    () =>
      session.busy.value &&
      session.prompts.waiting.value.length === 0 &&
      !session.items.value
        .slice(-RECENT)
        .some((item) => item.kind === "message" && (item.streaming.value || unsent(item))),
  ).value;
  const dots = awaited && lines.length === 0 && chat.appOnline.value !== false;
  // biome-ignore lint/correctness/useExhaustiveDependencies: what changes the height
  useLayoutEffect(onGrow, [lines.length, dots, waiting.length > 0]);
  return (
    <div class="progress">
      {lines.map((line) => (
        <Line key={line.invocationId} line={line} />
      ))}
      {waiting.length > 0 && !session.stopping.value && (
        <p class="awaiting-you">
          <HandIcon size={17} />
          Waiting for your answer
        </p>
      )}
      {dots && (
        <p class="typing">
          <span class="sr-only">{chat.app} is working</span>
          <i />
          <i />
          <i />
        </p>
      )}
    </div>
  );
}

function unsent(item: { readonly delivery: { readonly value: string } }): boolean {
  return item.delivery.value === "sending";
}

function Line({ line }: { readonly line: StatusLine }) {
  return (
    <div class="status-line" role="status">
      <span class="pulse" aria-hidden="true" />
      <div>
        <p class="status-text" dir="auto">
          {line.text}
        </p>
        {line.detail && (
          <p class="status-detail" dir="auto">
            {line.detail}
          </p>
        )}
      </div>
    </div>
  );
}

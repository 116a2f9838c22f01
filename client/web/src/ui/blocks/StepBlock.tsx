import { useComputed } from "@preact/signals";
import type { BlockItem, OpenSession } from "../../core/model.ts";
import { CheckIcon, CloseIcon } from "../icons.tsx";
import type { Step } from "./payload.ts";

/** `stopped` and `unfinished` were running when the turn that showed them came to its end. */
type Status = Step["status"] | "stopped" | "unfinished";

const SAID: Record<Status, string> = {
  pending: "Not begun",
  running: "In progress",
  completed: "Done",
  failed: "Failed",
  stopped: "Stopped",
  unfinished: "Not finished",
};

/** A longer detail is folded. */
const SHORT = 120;

interface Props {
  readonly step: Step;
  readonly item: BlockItem;
  readonly session: OpenSession;
}

export function StepBlock({ step, item, session }: Props) {
  const { label, detail } = step;
  const over = useComputed(() => session.over(item.invocationId.value)).value;
  const left = over === "stopped" ? "stopped" : "unfinished";
  const status: Status = step.status === "running" && over ? left : step.status;
  const folded = detail.length > SHORT || detail.includes("\n");
  return (
    <div class="step" data-status={status}>
      <StepIcon status={status} />
      <div class="step-body">
        <p class="step-label" dir="auto">
          {label}
          <span class="sr-only"> ({SAID[status]})</span>
        </p>
        {detail && !folded && (
          <p class="step-detail" dir="auto">
            {detail}
          </p>
        )}
        {folded && (
          <details>
            <summary>Details</summary>
            <pre class="step-detail" dir="auto">
              {detail}
            </pre>
          </details>
        )}
      </div>
    </div>
  );
}

function StepIcon({ status }: { readonly status: Status }) {
  return (
    <span class="step-icon" aria-hidden="true">
      {status === "running" && <span class="spinner" />}
      {status === "completed" && <CheckIcon size={14} />}
      {status === "failed" && <CloseIcon size={14} />}
    </span>
  );
}

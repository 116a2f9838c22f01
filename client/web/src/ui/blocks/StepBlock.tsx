import { CheckIcon, CloseIcon } from "../icons.tsx";
import type { Step } from "./payload.ts";

const SAID: Record<Step["status"], string> = {
  pending: "Not begun",
  running: "In progress",
  completed: "Done",
  failed: "Failed",
};

/** A longer detail is folded. */
const SHORT = 120;

export function StepBlock({ step }: { readonly step: Step }) {
  const { label, status, detail } = step;
  const folded = detail.length > SHORT || detail.includes("\n");
  return (
    <div class="step" data-status={status}>
      <StepIcon status={status} />
      <div class="step-body">
        <p class="step-label">
          {label}
          <span class="sr-only"> ({SAID[status]})</span>
        </p>
        {detail && !folded && <p class="step-detail">{detail}</p>}
        {folded && (
          <details>
            <summary>Details</summary>
            <pre class="step-detail">{detail}</pre>
          </details>
        )}
      </div>
    </div>
  );
}

function StepIcon({ status }: { readonly status: Step["status"] }) {
  return (
    <span class="step-icon" aria-hidden="true">
      {status === "running" && <span class="spinner" />}
      {status === "completed" && <CheckIcon size={14} />}
      {status === "failed" && <CloseIcon size={14} />}
    </span>
  );
}

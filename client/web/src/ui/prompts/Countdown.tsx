/** How long a prompt can be answered: seen in its last minute, heard once as a time of day. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

const SHOWN_MS = 60_000;
/** What a timer can hold. */
const LONGEST_MS = 2 ** 31 - 1;

export function Countdown({ until }: { readonly until: Date | null }) {
  const left = useSignal<number | null>(null);
  const end = until?.getTime() ?? Number.POSITIVE_INFINITY;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = () => {
      const rest = end - Date.now();
      left.value = rest > SHOWN_MS ? null : Math.max(0, Math.ceil(rest / 1000));
      if (rest > 0 && rest < Number.POSITIVE_INFINITY) {
        const wait = rest > SHOWN_MS ? rest - SHOWN_MS : rest % 1000 || 1000;
        timer = setTimeout(tick, Math.min(wait, LONGEST_MS));
      }
    };
    tick();
    return () => clearTimeout(timer);
  }, [end, left]);
  if (!until) return null;
  return (
    <>
      <span class="sr-only">It can be answered until {clock(until)}.</span>
      {left.value !== null && (
        <span class="countdown" aria-hidden="true" data-last={left.value <= 10 || undefined}>
          {left.value > 0 ? `${left.value} s left` : "The time is over"}
        </span>
      )}
    </>
  );
}

function clock(time: Date): string {
  const today = new Date().toDateString() === time.toDateString();
  return today
    ? time.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" })
    : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

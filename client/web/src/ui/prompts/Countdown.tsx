/** How long a prompt can be answered: a time of day, and in its last minute the seconds. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

/** From when on the seconds are counted. */
const SHOWN_MS = 60_000;
/** A deadline that is further away than this matters to nobody who reads the question. */
const NEAR_MS = 86_400_000;
/** What a timer can hold. */
const LONGEST_MS = 2 ** 31 - 1;

export function Countdown({ until }: { readonly until: Date | null }) {
  /** Seconds; null: they are not counted yet. */
  const left = useSignal<number | null>(null);
  const near = useSignal(false);
  const end = until?.getTime() ?? Number.POSITIVE_INFINITY;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = () => {
      const rest = end - Date.now();
      left.value = rest > SHOWN_MS ? null : Math.max(0, Math.ceil(rest / 1000));
      near.value = rest <= NEAR_MS;
      if (rest > 0 && rest < Number.POSITIVE_INFINITY) {
        const next = [NEAR_MS, SHOWN_MS].find((each) => rest > each);
        const wait = next ? rest - next : rest % 1000 || 1000;
        timer = setTimeout(tick, Math.min(wait, LONGEST_MS));
      }
    };
    tick();
    return () => clearTimeout(timer);
  }, [end, left, near]);
  if (!until) return null;
  return (
    <>
      <span class="sr-only">It can be answered until {clock(until)}.</span>
      {near.value && left.value === null && (
        <span class="until" aria-hidden="true">
          Until {clock(until)}
        </span>
      )}
      {left.value !== null && (
        <span class="countdown" aria-hidden="true" data-last={left.value <= 10 || undefined}>
          {left.value > 0 ? `${left.value} s left` : "The time is over"}
        </span>
      )}
    </>
  );
}

/** A time of day; of another day with its date. */
export function clock(time: Date): string {
  const today = new Date().toDateString() === time.toDateString();
  return today
    ? time.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" })
    : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** The session list in groups by day. */
import type { SessionEntry } from "../core/model.ts";

export interface Group {
  readonly label: "Today" | "Yesterday" | "Previous 7 days" | "Older";
  readonly entries: readonly SessionEntry[];
}

const LABELS = ["Today", "Yesterday", "Previous 7 days", "Older"] as const;

/**
 * Groups entries that come newest activity first, and keeps their order.
 *
 * An entry does not say when it was last used, only its rank: it was used no earlier than any entry
 * below it was opened. That keeps a chat of last week that was taken up again today under "Today".
 */
export function grouped(entries: readonly SessionEntry[], now: Date): readonly Group[] {
  const groups: { label: Group["label"]; entries: SessionEntry[] }[] = [];
  let newest = Number.NEGATIVE_INFINITY;
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i];
    if (!entry) continue;
    newest = Math.max(newest, entry.createTime.getTime());
    const label = LABELS[bucket(new Date(newest), now)] ?? "Older";
    const last = groups.at(-1);
    if (last?.label === label) last.entries.push(entry);
    else groups.push({ label, entries: [entry] });
  }
  groups.reverse();
  for (const group of groups) group.entries.reverse();
  return groups;
}

function bucket(time: Date, now: Date): number {
  const days = dayNumber(now) - dayNumber(time);
  if (days <= 0) return 0; // also a clock that is ahead of ours
  if (days === 1) return 1;
  return days <= 7 ? 2 : 3;
}

/** Returns the number of the local day, so that days of 23 and 25 hours count as one. */
export function dayNumber(time: Date): number {
  return Math.floor(Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()) / 86_400_000);
}

/** Returns the day as a person names it: "Today", "Yesterday", else weekday and date. */
export function dayName(time: Date, now: Date): string {
  const days = dayNumber(now) - dayNumber(time);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return time.toLocaleDateString(undefined, {
    weekday: "long",
    day: "numeric",
    month: "long",
    ...(time.getFullYear() === now.getFullYear() ? {} : { year: "numeric" }),
  });
}

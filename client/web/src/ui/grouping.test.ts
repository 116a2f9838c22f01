import { expect, test } from "vitest";
import type { SessionEntry } from "../core/model.ts";
import { dayName, dayNumber, grouped } from "./grouping.ts";

const NOW = new Date(2026, 4, 20, 15, 0);

function entry(id: string, daysAgo: number): SessionEntry {
  const createTime = new Date(2026, 4, 20 - daysAgo, 9, 0);
  return { id, title: id, state: "open", createTime, activity: 0 };
}

function shape(entries: readonly SessionEntry[]) {
  return grouped(entries, NOW).map((group) => [
    group.label,
    group.entries.map((e) => e.id).join(""),
  ]);
}

test("entries fall under the day they were opened", () => {
  const entries = [entry("a", 0), entry("b", 1), entry("c", 2), entry("d", 7), entry("e", 8)];
  expect(shape(entries)).toEqual([
    ["Today", "a"],
    ["Yesterday", "b"],
    ["Previous 7 days", "cd"],
    ["Older", "e"],
  ]);
});

test("an old chat taken up again keeps its place above newer ones", () => {
  expect(shape([entry("old", 30), entry("new", 0), entry("x", 1)])).toEqual([
    ["Today", "oldnew"],
    ["Yesterday", "x"],
  ]);
});

test("an empty list has no groups", () => {
  expect(shape([])).toEqual([]);
});

test("a clock that is ahead counts as today", () => {
  expect(shape([entry("a", -1)])).toEqual([["Today", "a"]]);
});

test("days are local and named", () => {
  expect(dayNumber(new Date(2026, 4, 20, 23, 59)) - dayNumber(new Date(2026, 4, 20, 0, 0))).toBe(0);
  expect(dayNumber(new Date(2026, 4, 21, 0, 0)) - dayNumber(new Date(2026, 4, 20, 23, 59))).toBe(1);
  expect(dayName(new Date(2026, 4, 20, 1), NOW)).toBe("Today");
  expect(dayName(new Date(2026, 4, 19, 23), NOW)).toBe("Yesterday");
  expect(dayName(new Date(2025, 4, 19), NOW)).toContain("2025");
});

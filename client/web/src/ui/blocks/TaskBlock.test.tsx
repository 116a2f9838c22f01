import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { BlockItem, OpenSession } from "../../core/model.ts";
import { fakeChat } from "../fake.ts";
import { task } from "../fakeTasks.ts";
import { createUi, UiProvider } from "../state.ts";
import { BlockEntry } from "./BlockEntry.tsx";
import type { Payload } from "./payload.ts";

const START = new Date("2026-03-04T10:00:00Z");
let place: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers({ now: START });
  place = document.createElement("div");
});

afterEach(async () => {
  await act(() => render(null, place));
  vi.useRealTimers();
});

/** Shows a card; returns what changes it, and what was announced. */
async function show(fields: Payload, state = "open") {
  const item = task(fields);
  const payload = signal<Payload>(item.payload.peek());
  const shown: BlockItem = { ...item, payload };
  const session = { entry: signal({ state }) } as unknown as OpenSession;
  const ui = createUi(fakeChat("chat"));
  await act(() =>
    render(
      <UiProvider value={ui}>
        <BlockEntry item={shown} session={session} />
      </UiProvider>,
      place,
    ),
  );
  const change = (more: Payload) =>
    act(() => {
      payload.value = { ...payload.value, ...more };
    });
  return { change, said: () => ui.announcer.lines.value.map((line) => line.text) };
}

const text = (selector: string) => place.querySelector(selector)?.textContent ?? null;
const bar = () => {
  const found = place.querySelector("progress");
  return found && ["value", "max", "aria-valuetext"].map((name) => found.getAttribute(name));
};

test("a task that runs has a bar with its values, and says them beside it", async () => {
  const { change } = await show({ message: "Sync" });
  expect(text(".card-title")).toBe("Sync");
  expect(text(".task-status")).toBe("Running");
  expect(bar()).toEqual([null, "100", null]);
  const { firstChild: card } = place;
  await change({ progress: 0.4, progress_message: "40 of 100" });
  expect(bar()).toEqual(["40", "100", "40%, 40 of 100"]);
  expect(text(".task-percent")).toBe("40%");
  expect(text(".task-said")).toBe("40 of 100");
  expect(place.firstChild).toBe(card);
  await change({ progress: 0 });
  expect(bar()).toEqual(["0", "100", "0%, 40 of 100"]);
  await change({ status: "completed", progress: 1 });
  expect(bar()).toBeNull();
});

test("a reader hears of each status, and not of each step of the progress", async () => {
  const { change, said } = await show({ message: "Sync", status: "pending" });
  expect(said()).toEqual([]);
  await change({ status: "running" });
  for (const progress of [0.1, 0.2, 0.3]) {
    await change({ progress });
  }
  expect(said()).toEqual(["Sync: Running."]);
  await change({ status: "failed", failures: 1 });
  expect(said()).toEqual(["Sync: Running.", "Sync: Failed."]);
});

test("when it begins is kept current", async () => {
  const soon = new Date(START.getTime() + 65_000).toISOString();
  const { change } = await show({ status: "scheduled", start_time: soon });
  expect(text("time")).toBe("in 1 minute");
  expect(place.querySelector("time")?.getAttribute("datetime")).toBe(soon);
  await act(() => void vi.advanceTimersByTime(6_000));
  expect(text("time")).toBe("in 59 seconds");
  await act(() => void vi.advanceTimersByTime(60_000));
  expect(text("time")).toBe("at any moment");
  expect(vi.getTimerCount()).toBe(0);
  const later = new Date(Date.now() + 3 * 86_400_000).toISOString();
  await change({ status: "retrying", failures: 1, start_time: later });
  expect(text(".task-status")).toMatch(/^Trying again \(try 2 of 3\)\s· in 3 days, .*2026/);
  await change({ status: "running" });
  expect(place.querySelector("time")).toBeNull();
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ["312 messages", "312 messages"],
  [42, "42"],
  [0, "0"],
  [false, "No"],
  [null, null],
  ["", null],
])("a short result stands in the card: %j", async (result, shown) => {
  await show({ status: "completed", result });
  expect(text("p.task-result")).toBe(shown);
  expect(place.querySelector("details")).toBeNull();
});

test.each([
  [{ synced: 1 }, '{"synced":1}', '{\n  "synced": 1\n}'],
  [[], "[]", "[]"],
  ["long ".repeat(200), `${"long ".repeat(200).slice(0, 79).trimEnd()}…`, "long ".repeat(200)],
])("any other result unfolds: %#", async (result, folded, whole) => {
  await show({ status: "completed", result });
  expect(text("summary code")).toBe(folded);
  expect(text("details pre")).toBe(whole);
});

test("a failure is neutral, and has a reference to quote", async () => {
  await show({ status: "failed", reason: "HANDLER_ERROR", reference_id: "ref_7", progress: 0.4 });
  expect(text(".task-status")).toBe("Failed");
  expect(place.querySelector("article")?.textContent).toBe(
    "Sync mailboxFailedSomething went wrong.It was at 40%Reference ref_7",
  );
  expect(place.querySelector("button")?.getAttribute("aria-label")).toBe("Copy the reference");
});

test("in a chat that is closed a card says how far the task was then, and nothing moves", async () => {
  await show({ status: "running", progress: 0.4 }, "closed");
  expect(text(".task-status")).toBe("Running when the chat was closed");
  expect(text(".task-said")).toBe("It was at 40%");
  expect(bar()).toBeNull();
  expect(place.querySelector(".spinner")).toBeNull();
  await act(() => render(null, place));
  const soon = new Date(START.getTime() + 65_000).toISOString();
  await show({ status: "scheduled", start_time: soon }, "closed");
  expect(text(".task-status")).toBe("Scheduled when the chat was closed");
  expect(vi.getTimerCount()).toBe(0);
  await act(() => render(null, place));
  await show({ status: "completed" }, "closed");
  expect(text(".task-status")).toBe("Completed");
});

test("what is no task is shown as any block", async () => {
  await show({ status: "exploded" });
  expect(place.querySelector("[data-block]")?.getAttribute("data-block")).toBe("generic");
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { InvocationStatus } from "../wire.ts";
import type { BlockItem } from "./model.ts";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession, Work } from "./testing/log.ts";
import { current, openPage, type Page, reload, settle } from "./testing/page.ts";
import { FakeServer } from "./testing/server.ts";
import { Timeline } from "./timeline.ts";

let server: FakeServer;
let page: Page;
let session: FakeSession;
let work: Work;

beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  page = openPage(new FakeBrowser(), server);
  await settle();
  session = server.log.open(server.userOf(page.tab));
  for (const enter of session.work.values()) {
    session.end(enter);
  }
  ({ work } = session.say("sync"));
  page.chat.open(session.id);
  await settle();
});

afterEach(() => {
  page.chat.close();
  vi.useRealTimers();
});

/** The kinds of the items, and of a card what it says. */
function shown(): string[] {
  return current(page.chat)
    .items.peek()
    .map((item) =>
      item.kind === "block" ? `${item.type} ${String(item.payload.peek().status)}` : item.kind,
    );
}

function blockItem(id: string): BlockItem {
  const found = current(page.chat)
    .items.peek()
    .find((item): item is BlockItem => item.kind === "block" && item.blockId === id);
  if (!found) throw new Error("the block is not shown");
  return found;
}

test("a task that outlives its turn leaves the session free, and its card goes on", async () => {
  const task = session.submit(work, "sync");
  session.card(task, { status: "running" });
  await settle();
  const { busy, stopping } = current(page.chat);
  expect([busy.value, stopping.value]).toEqual([true, false]);
  session.end(work);
  await settle();
  expect(busy.value).toBe(false);
  const { key } = blockItem(task.id);
  session.card(task, { status: "completed", result: 1 });
  session.end(task);
  await settle();
  expect(shown()).toEqual(["message", "task completed"]);
  expect(blockItem(task.id).key).toBe(key);
  expect(busy.value).toBe(false);
});

test.each<InvocationStatus>([
  "INVOCATION_STATUS_COMPLETED",
  "INVOCATION_STATUS_FAILED",
  "INVOCATION_STATUS_CANCELLED",
  "INVOCATION_STATUS_TIMED_OUT",
])("the end of a task is no end of a turn and no item: %s", async (status) => {
  const task = session.submit(work, "sync");
  session.end(task, status, "HANDLER_ERROR");
  await settle();
  expect(current(page.chat).busy.value).toBe(true);
  expect(shown()).toEqual(["message"]);
  session.end(work);
  await settle();
  expect(current(page.chat).busy.value).toBe(false);
  // What came after it is in its place: nothing of the log was lost with it.
  session.say("again");
  await settle();
  expect(shown()).toEqual(["message", "message"]);
});

test("a card is right after a reload and after a line that was cut", async () => {
  const task = session.submit(work, "sync");
  session.card(task, { status: "running", progress: 0.1 });
  session.end(work);
  await settle();
  server.cutAll();
  session.card(task, { status: "running", progress: 0.7 });
  await settle(5000);
  expect(blockItem(task.id).payload.value.progress).toBe(0.7);
  page.chat.close();
  page = reload(page, server);
  await settle();
  expect(current(page.chat).busy.value).toBe(false);
  expect(blockItem(task.id).payload.value.progress).toBe(0.7);
  session.card(task, { status: "failed", reference_id: "E-1" });
  session.end(task, "INVOCATION_STATUS_FAILED", "HANDLER_ERROR");
  await settle();
  expect(shown()).toEqual(["message", "task failed"]);
});

test("Stop never stops a task", async () => {
  const task = session.submit(work, "sync");
  session.end(work);
  await settle();
  await current(page.chat).stop();
  expect(server.seen.filter((seen) => seen.path.endsWith("/stop"))).toEqual([]);
  const behind = session.say("and this?");
  await settle();
  void current(page.chat).stop();
  await settle();
  const [stop] = server.seen.filter((seen) => seen.path.endsWith("/stop"));
  expect(stop?.body).toMatchObject({ invocation_id: behind.work.id });
  expect(session.work.has(task.id)).toBe(true);
});

test("a status line of a task is shown while it runs", async () => {
  const task = session.submit(work, "sync");
  session.end(work);
  session.status(task, "Reading the mailbox");
  await settle();
  const lines = () => current(page.chat).statusLines.value.map((line) => line.text);
  expect(lines()).toEqual(["Reading the mailbox"]);
  session.end(task);
  await settle();
  expect(lines()).toEqual([]);
});

test("what a task shows is not over while it runs, after a reload as well", async () => {
  const task = session.submit(work, "sync");
  session.block(task, "step", {});
  session.end(work);
  await settle();
  const over = () => {
    const view = current(page.chat);
    return view.over(blockItem("step").invocationId.value);
  };
  expect(over()).toBe("");
  page.chat.close();
  page = reload(page, server);
  await settle();
  expect(over()).toBe("");
  session.end(task, "INVOCATION_STATUS_CANCELLED");
  await settle();
  expect(over()).toBe("ended");
});

test("after a reload, a card tells whether its task is over", async () => {
  const task = session.submit(work, "sync");
  session.block(task, "step", {});
  session.card(task, { status: "timed_out" });
  session.end(task, "INVOCATION_STATUS_TIMED_OUT");
  page.chat.close();
  page = reload(page, server);
  await settle();
  expect(current(page.chat).over(task.id)).toBe("ended");
});

test("a task that failed and goes on again, as an operator may have it, is not over", async () => {
  const task = session.submit(work, "sync");
  session.card(task, { status: "running" });
  session.end(work);
  session.card(task, { status: "failed" });
  session.end(task, "INVOCATION_STATUS_FAILED");
  await settle();
  expect(current(page.chat).over(task.id)).toBe("ended");
  session.work.set(task.id, task);
  session.card(task, { status: "running" });
  session.status(task, "Once more");
  await settle();
  expect(current(page.chat).over(task.id)).toBe("");
  expect(current(page.chat).statusLines.value.map((line) => line.text)).toEqual(["Once more"]);
});

test("a page that tells of tasks that run, or of their ends, makes no turn of them", () => {
  const timeline = new Timeline({
    attach: () => undefined,
    detach: () => undefined,
    claim: () => undefined,
    prompt: () => {
      throw new Error("no prompt is in here");
    },
  });
  timeline.load({
    offset: "9",
    pending: [
      { invocation_id: "tsk_1", kind: "INVOCATION_KIND_TASK" },
      { invocation_id: "inv_2", kind: "INVOCATION_KIND_SCHEDULE" },
      { invocation_id: "inv_3", kind: "INVOCATION_KIND_MESSAGE" },
    ],
    items: [
      {
        place: "3",
        offset: "9",
        invocation_id: "tsk_4",
        ended: { kind: "INVOCATION_KIND_TASK", status: "INVOCATION_STATUS_FAILED" },
      },
    ],
  });
  timeline.publish();
  expect([...timeline.pending.value.keys()]).toEqual(["inv_3"]);
  expect(timeline.items.value).toEqual([]);
  const ended = { kind: "INVOCATION_KIND_TASK", status: "INVOCATION_STATUS_FAILED" } as const;
  const at = { offset: "10", place: "3", item_offset: "10" };
  expect(timeline.apply({ ...at, invocation_id: "tsk_1", invocation_ended: ended })).toBe(
    "applied",
  );
  timeline.publish();
  expect(timeline.items.value).toEqual([]);
  expect(timeline.over("tsk_1")).toBe("ended");
});

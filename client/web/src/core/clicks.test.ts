import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { BlockItem } from "./model.ts";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession, Work } from "./testing/log.ts";
import { current, openPage, type Page, reload, settle } from "./testing/page.ts";
import { FakeServer } from "./testing/server.ts";

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
  ({ work } = session.say("question"));
  page.chat.open(session.id);
  await settle();
});

afterEach(() => {
  page.chat.close();
  vi.useRealTimers();
});

function notices(): string[] {
  return page.chat.notices.value.map(({ text }) => text);
}

async function click(name: string): Promise<void> {
  void current(page.chat).act(name, "a", {});
  await settle();
}

/** How the turn of a block has ended. */
function over(blockId = "a") {
  const { items, over: end } = current(page.chat);
  const block = items.value.find((each): each is BlockItem => each.kind === "block");
  expect(block?.blockId).toBe(blockId);
  return end(block?.invocationId.value ?? "");
}

describe("a click", () => {
  it("that nobody handles is told of, once, by the tab that it was made in", async () => {
    const other = openPage(page.tab.browser, server, page.tab.hash());
    await settle();
    server.unhandled.add("nobody");
    await click("nobody");
    expect(notices()).toEqual(["This app does not handle that button."]);
    expect(other.chat.notices.value).toEqual([]);
    other.chat.close();
    page.chat.dismiss(page.chat.notices.value[0]?.id ?? 0);
    server.cutAll();
    await settle(5000);
    expect(notices()).toEqual([]);
  });

  it("that was queued is told of when its end comes, and is quiet where it is handled", async () => {
    await click("later");
    await click("well");
    expect(notices()).toEqual([]);
    const [later, well] = [...session.work.values()].slice(-2);
    if (!later || !well) throw new Error("nothing was queued");
    session.end(well);
    await settle();
    expect(notices()).toEqual([]);
    session.end(later, "INVOCATION_STATUS_UNHANDLED", "NO_HANDLER");
    await settle();
    expect(notices()).toEqual(["This app does not handle that button."]);
  });

  it.each([403, 404, 409, 413])("that is refused with %i is never silent", async (status) => {
    server.fault = ({ path }) =>
      path.endsWith("/actions") ? { status, reason: "NO", detail: "no" } : undefined;
    await click("any");
    expect(notices()).toHaveLength(1);
    expect(notices()[0]).toMatch(/^That did not work\. ./);
  });
});

describe("the turn of a block", () => {
  it("is over when it has ended, in the words of how, also after a reload", async () => {
    session.block(work, "a", { status: "running" });
    await settle();
    expect(over()).toBe("");
    session.end(work);
    await settle();
    expect(over()).toBe("ended");
    page = reload(page, server);
    await settle();
    expect(over()).toBe("ended");
    const next = session.say("again").work;
    session.block(next, "a", { status: "running" });
    await settle();
    expect(over()).toBe("");
    session.end(next, "INVOCATION_STATUS_STOPPED", "STOPPED");
    await settle();
    expect(over()).toBe("stopped");
    page = reload(page, server);
    await settle();
    expect(over()).toBe("stopped");
  });

  it("is not said to be over where not all that waits is known", async () => {
    session.block(work, "a", { status: "running" });
    for (let each = 0; each < 200; each++) session.say("more");
    vi.spyOn(session, "pending").mockImplementation(() =>
      [...session.work.values()].slice(-200).map(({ id, kind }) => ({ invocation_id: id, kind })),
    );
    page = reload(page, server);
    await settle();
    for (let each = 0; each < 5; each++) await current(page.chat).loadOlder();
    expect(over()).toBe("");
  });
});

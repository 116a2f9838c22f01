import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBrowser } from "./testing/browser.ts";
import { openPage, type Page, settle } from "./testing/page.ts";
import { FakeServer } from "./testing/server.ts";

let server: FakeServer;
let pages: Page[];

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
});

afterEach(() => {
  for (const { chat } of pages) {
    chat.close();
  }
  vi.useRealTimers();
});

async function open(count: number, browser = new FakeBrowser()): Promise<void> {
  pages = Array.from({ length: count }, () => openPage(browser, server));
  await settle();
}

/** The tabs that have a stream. */
function following(): number[] {
  return [...pages.keys()].filter((at) => pages[at]?.chat.connection.value === "live");
}

describe("tabs nobody looks at", () => {
  it("follow as long as they are three at most", async () => {
    await open(7);
    for (const { tab } of pages.slice(1)) {
      tab.hide();
    }
    await settle(19_000);
    expect(server.followers.size).toBe(7);
    await settle(2_000);
    expect(server.followers.size).toBe(4);
    expect(following()).toContain(0);
  });

  it("read on without a gap when they are looked at", async () => {
    await open(5);
    for (const { tab } of pages) {
      tab.hide();
    }
    await settle(21_000);
    expect(server.followers.size).toBe(3);
    const last = pages.at(-1) as Page;
    const session = server.log.open(server.userOf(last.tab));
    session.say("while nobody looked");
    await settle();
    expect(last.chat.sessions.value).toEqual([]);
    last.tab.hide(false);
    await settle();
    expect(last.chat.sessions.value.map((each) => each.id)).toEqual([session.id]);
    expect(server.followers.size).toBe(4);
  });

  it("take the place of one that was closed, when they are hidden again", async () => {
    await open(4);
    for (const { tab } of pages) {
      tab.hide();
    }
    await settle(21_000);
    expect(server.followers.size).toBe(3);
    pages[0]?.tab.crash();
    pages[3]?.tab.hide(false);
    pages[3]?.tab.hide();
    await settle(21_000);
    expect(following()).toContain(3);
  });

  it("all pause where there are no locks to share places by, as on plain http", async () => {
    await open(7, new FakeBrowser(false));
    for (const { tab } of pages.slice(1)) {
      tab.hide();
    }
    await settle(19_000);
    expect(server.followers.size).toBe(7);
    await settle(2_000);
    expect(server.followers.size).toBe(1);
    expect(following()).toEqual([0]);
    pages[3]?.tab.hide(false);
    await settle();
    expect(following()).toEqual([0, 3]);
  });

  it("do not say that they are live while they pause", async () => {
    await open(1, new FakeBrowser(false));
    const [page] = pages;
    page?.tab.hide();
    await settle(21_000);
    expect(page?.chat.connection.value).toBe("reconnecting");
    page?.tab.hide(false);
    await settle();
    expect(page?.chat.connection.value).toBe("live");
  });

  it("take places or pause at once where they are hidden when they begin", async () => {
    for (const locks of [true, false]) {
      const browser = new FakeBrowser(locks);
      const before = server.seen.filter((each) => each.path === "/v1/events").length;
      pages = Array.from({ length: 7 }, () => openPage(browser, server, "", new Map(), true));
      await settle();
      const streams = server.seen.filter((each) => each.path === "/v1/events").length - before;
      expect([server.followers.size, streams]).toEqual(locks ? [3, 3] : [0, 0]);
      pages[6]?.tab.hide(false);
      await settle();
      expect(following()).toContain(6);
      for (const { chat } of pages) {
        chat.close();
      }
    }
  });
});

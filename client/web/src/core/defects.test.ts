import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Passing } from "./passing.ts";
import { SessionList } from "./sessionlist.ts";
import { FakeBrowser } from "./testing/browser.ts";
import { openPage, type Page, settle, shown } from "./testing/page.ts";
import { expected, FakeServer } from "./testing/server.ts";
import { Timeline } from "./timeline.ts";

const reported = vi.fn();
const defect = new TypeError("a defect");
let server: FakeServer;
let page: Page;

const follows = () => server.seen.filter((each) => each.path === "/v1/events").length;
const breaks = () => {
  throw defect;
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("reportError", reported);
  server = new FakeServer();
});

afterEach(() => {
  page.chat.close();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  reported.mockReset();
  vi.useRealTimers();
});

describe("a defect of the page itself", () => {
  it("in the reading of frames is reported, and tried again less and less often", async () => {
    page = openPage(new FakeBrowser(), server);
    await settle();
    const passing = vi.spyOn(Passing.prototype, "transient").mockImplementation(breaks);
    const before = follows();
    // The line is live each time before it breaks.
    for (let second = 0; second < 120; second++) {
      await settle(1_000);
      server.raw('data: {"transient":{}}\n\n');
    }
    expect(reported).toHaveBeenCalledWith(defect);
    expect(follows() - before).toBeGreaterThan(10);
    expect(follows() - before).toBeLessThan(30);
    passing.mockRestore();
    const session = server.log.open(server.userOf(page.tab));
    await settle(11_000);
    expect(page.chat.connection.value).toBe("live");
    expect(page.chat.sessions.value.map((each) => each.id)).toEqual([session.id]);
  });

  it("in beginning is reported, and the page begins when it has passed", async () => {
    const list = vi.spyOn(SessionList.prototype, "load").mockImplementation(breaks);
    page = openPage(new FakeBrowser(), server);
    await settle(20_000);
    expect(reported).toHaveBeenCalledWith(defect);
    expect(reported.mock.calls.length).toBeLessThan(10);
    expect(page.chat.access.value).toBe("starting");
    expect(page.chat.connection.value).toBe("reconnecting");
    list.mockRestore();
    await settle(11_000);
    expect(page.chat.access.value).toBe("ready");
    expect(page.chat.connection.value).toBe("live");
  });

  it("in the loading of a chat is reported, and the chat is loaded when it has passed", async () => {
    page = openPage(new FakeBrowser(), server);
    await settle();
    const session = server.log.open(server.userOf(page.tab));
    session.say("hello");
    const load = vi.spyOn(Timeline.prototype, "load").mockImplementation(breaks);
    page.chat.open(session.id);
    await settle(5_000);
    expect(reported).toHaveBeenCalledWith(defect);
    load.mockRestore();
    await settle(11_000);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is not what a line that breaks is", async () => {
    page = openPage(new FakeBrowser(), server);
    await settle();
    server.cutAll();
    await settle(1_000);
    server.down = true;
    server.cutAll();
    await settle(20_000);
    expect(reported).not.toHaveBeenCalled();
  });
});

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession } from "./testing/log.ts";
import {
  current,
  deliveries,
  messages,
  openPage,
  type Page,
  reload,
  settle,
  shown,
} from "./testing/page.ts";
import { expected, FakeServer, type Seen } from "./testing/server.ts";

let server: FakeServer;
let browser: FakeBrowser;
let pages: Page[];
let page: Page;
let session: FakeSession;

const isSend = (seen: Seen) => seen.path.endsWith("/messages");
const sends = () => server.seen.filter(isSend);
const stored = () => [...browser.shared.keys()].filter((key) => key.includes(":outbox:"));

function open(hash = ""): Page {
  const made = openPage(browser, server, hash);
  pages.push(made);
  return made;
}

beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  browser = new FakeBrowser();
  pages = [];
  page = open();
  await settle();
  session = server.log.open(server.userOf(page.tab));
  page.chat.open(session.id);
  await settle();
});

afterEach(() => {
  for (const { chat } of pages) {
    chat.close();
  }
  vi.useRealTimers();
});

describe("a message that is typed", () => {
  it("is on screen and on disk at once, and becomes the one in the log without a flicker", async () => {
    page.chat.setDraft("hello");
    page.chat.send("hello");
    expect(deliveries(page.chat)).toEqual([["hello", "sending"]]);
    expect(page.chat.draft.value).toBe("");
    expect(stored()).toHaveLength(1);
    const [item] = messages(page.chat);
    const seen: number[] = [];
    const off = current(page.chat).items.subscribe((items) => seen.push(items.length));
    await settle();
    off();
    expect(messages(page.chat)).toEqual([item]);
    expect(deliveries(page.chat)).toEqual([["hello", "sent"]]);
    expect(new Set(seen)).toEqual(new Set([1]));
    expect(stored()).toEqual([]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is the same item where the event comes long before the answer", async () => {
    server.fault = (seen) => (isSend(seen) ? "answer late" : undefined);
    page.chat.send("same words");
    page.chat.send("same words");
    const [first, second] = messages(page.chat);
    await settle();
    expect(deliveries(page.chat)).toEqual([
      ["same words", "sent"],
      ["same words", "sending"],
    ]);
    server.fault = () => undefined;
    server.release();
    await settle();
    expect(messages(page.chat)).toEqual([first, second]);
    expect(deliveries(page.chat).map(([, how]) => how)).toEqual(["sent", "sent"]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is the same item where the answer comes long before the event", async () => {
    server.cutAll();
    server.fault = (seen) => (seen.path === "/v1/events" ? "refused" : undefined);
    page.chat.send("hello");
    const [item] = messages(page.chat);
    await settle();
    expect(deliveries(page.chat)).toEqual([["hello", "sent"]]);
    expect(current(page.chat).busy.value).toBe(true);
    server.fault = () => undefined;
    await settle(12_000);
    expect(messages(page.chat)).toEqual([item]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is told apart from the same words of another tab", async () => {
    server.fault = (seen) => (isSend(seen) ? { status: 503 } : undefined);
    page.chat.send("yes");
    await settle();
    session.say("yes");
    await settle();
    server.fault = () => undefined;
    await settle(12_000);
    expect(deliveries(page.chat).map(([, how]) => how)).toEqual(["sent", "sent"]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is not lost where the same words of another tab were taken for it and it fails", async () => {
    server.fault = (seen) => (isSend(seen) ? { status: 503 } : undefined);
    page.chat.send("yes");
    await settle();
    session.say("yes");
    server.fault = (seen) => (isSend(seen) ? { status: 409, detail: "Closed." } : undefined);
    await settle(12_000);
    expect(deliveries(page.chat)).toEqual([
      ["yes", "sent"],
      ["yes", "failed"],
    ]);
    expect(current(page.chat).discard(messages(page.chat)[1]?.key ?? "")).toBe("yes");
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("is sent again under the same id until it is answered, and is there once", async () => {
    const faults = ["refused", "answer lost", { status: 502 }, { status: 429, retryAfter: 2 }];
    server.fault = (seen) => (isSend(seen) ? (faults.shift() as "refused") : undefined);
    page.chat.send("once");
    await settle(30_000);
    expect(sends()).toHaveLength(5);
    expect(new Set(sends().map((each) => each.body.request_id)).size).toBe(1);
    expect(deliveries(page.chat)).toEqual([["once", "sent"]]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("goes out in order, each after the one before it", async () => {
    let refused = 3;
    server.fault = (seen) => (isSend(seen) && refused-- > 0 ? "refused" : undefined);
    for (const each of ["one", "two", "three"]) {
      page.chat.send(each);
    }
    await settle(10_000);
    expect(shown(page.chat)).toEqual(expected(session));
    expect(deliveries(page.chat).map(([text]) => text)).toEqual(["one", "two", "three"]);
  });

  it("fails with a sentence, holds up nothing, and can be sent again or taken back", async () => {
    server.fault = (seen) =>
      isSend(seen) && seen.body.text !== "fine"
        ? { status: 413, reason: "LIMIT_EXCEEDED", detail: "The text is too long." }
        : undefined;
    page.chat.send("bad");
    page.chat.send("fine");
    page.chat.send("worse");
    await settle();
    expect(deliveries(page.chat)).toEqual([
      ["fine", "sent"],
      ["bad", "failed"],
      ["worse", "failed"],
    ]);
    const [, bad, worse] = messages(page.chat);
    expect(bad?.problem.value).toBe("The text is too long.");
    expect(current(page.chat).discard(worse?.key ?? "")).toBe("worse");
    server.fault = () => undefined;
    const [id] = sends().map((each) => each.body.request_id);
    current(page.chat).resend(bad?.key ?? "");
    expect(bad?.delivery.value).toBe("sending");
    await settle();
    expect(sends().at(-1)?.body.request_id).toBe(id);
    expect(messages(page.chat)[1]).toBe(bad);
    expect(shown(page.chat)).toEqual(expected(session));
    expect(stored()).toEqual([]);
  });

  it("waits while the browser is offline and goes by itself when it is back", async () => {
    browser.online = false;
    page.tab.fire("offline");
    page.chat.send("later");
    await settle(120_000);
    expect(deliveries(page.chat)).toEqual([["later", "sending"]]);
    browser.online = true;
    page.tab.fire("online");
    await settle();
    expect(deliveries(page.chat)).toEqual([["later", "sent"]]);
  });

  it("is refused before it is sent where it is too long, and the draft stays", async () => {
    page.chat.setDraft("é".repeat(2049));
    page.chat.send("é".repeat(2049));
    expect(messages(page.chat)).toEqual([]);
    expect(page.chat.draft.value).not.toBe("");
    expect(page.chat.notices.value[0]?.text).toContain("4 KiB");
    page.chat.send(" \n");
    expect(messages(page.chat)).toEqual([]);
  });

  it("is kept as a draft where its chat is gone, behind what is written there", async () => {
    page.chat.newChat();
    page.chat.setDraft("a thought");
    page.chat.open(session.id);
    await settle();
    server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
    page.chat.send("important words");
    await settle();
    server.log.remove(session);
    server.fault = () => undefined;
    await settle(12_000);
    expect(page.chat.current.value).toBeNull();
    expect(page.chat.draft.value).toBe("a thought\n\nimportant words");
    expect(stored()).toEqual([]);
  });

  it("is sent even where the browser stores nothing", async () => {
    page.tab.shared.full = true;
    page.chat.send("hello");
    await settle();
    expect(deliveries(page.chat)).toEqual([["hello", "sent"]]);
  });
});

describe("a new chat", () => {
  beforeEach(() => {
    page.chat.newChat();
  });

  it("is opened with its first message, in one item and one session on screen", async () => {
    page.chat.setDraft("first");
    page.chat.send("first");
    const opening = current(page.chat);
    expect([opening.id, opening.loading.value]).toEqual(["", false]);
    expect(deliveries(page.chat)).toEqual([["first", "sending"]]);
    page.chat.send("second");
    page.chat.setDraft("third, being wri");
    const keys = messages(page.chat).map((each) => each.key);
    await settle();
    expect(current(page.chat)).toBe(opening);
    expect(opening.id).toMatch(/^ses_/);
    expect(page.tab.hash()).toBe(`#/${opening.id}`);
    expect(page.chat.sessions.value[0]?.id).toBe(opening.id);
    expect(messages(page.chat).map((each) => each.key)).toEqual(keys);
    expect(shown(page.chat)).toEqual(expected(server.log.sessions.get(opening.id) ?? session));
    expect(page.chat.draft.value).toBe("third, being wri");
  });

  it("is opened once, however often the answer is lost", async () => {
    let lost = 3;
    server.fault = (seen) => (seen.method === "POST" && lost-- > 0 ? "answer lost" : undefined);
    page.chat.send("first");
    await settle(20_000);
    expect(server.log.sessions.size).toBe(2);
    expect(deliveries(page.chat)).toEqual([["first", "sent"]]);
  });

  it("is opened after a reload in the middle of opening it", async () => {
    server.fault = (seen) => (seen.method === "POST" ? "answer lost" : undefined);
    page.chat.send("first");
    await settle(10);
    server.fault = () => undefined;
    page = reload(page, server);
    pages.push(page);
    await settle();
    expect(server.log.sessions.size).toBe(2);
    expect(deliveries(page.chat)).toEqual([["first", "sent"]]);
    expect(current(page.chat).id).not.toBe("");
  });

  it("keeps its title however often it is tried, so that its second message can open it", async () => {
    const opens = () =>
      server.seen.filter((each) => each.path === "/v1/sessions" && each.body.title);
    const faults = ["answer lost", { status: 403, detail: "No." }];
    server.fault = (seen) =>
      seen.method === "POST" && seen.path === "/v1/sessions"
        ? (faults.shift() as "answer lost")
        : undefined;
    page.chat.send("first");
    await settle(1_000);
    expect(deliveries(page.chat)).toEqual([["first", "failed"]]);
    server.fault = (seen) => (seen.method === "POST" ? "refused" : undefined);
    page.chat.send("second");
    await settle(10);
    page = reload(page, server);
    pages.push(page);
    await settle(10);
    current(page.chat).discard(messages(page.chat)[0]?.key ?? "");
    server.fault = () => undefined;
    page.chat.send("third");
    await settle(12_000);
    expect(deliveries(page.chat)).toEqual([
      ["second", "sent"],
      ["third", "sent"],
    ]);
    expect(new Set(opens().map((each) => each.body.title))).toEqual(new Set(["first"]));
    expect(server.log.sessions.size).toBe(2);
  });

  it("keeps its title also where its first message was taken back", async () => {
    const faults = ["answer lost", { status: 403, detail: "No." }];
    server.fault = (seen) => (seen.method === "POST" ? (faults.shift() as "refused") : undefined);
    page.chat.send("first");
    await settle(1_000);
    current(page.chat).discard(messages(page.chat)[0]?.key ?? "");
    page.chat.send("second");
    await settle(12_000);
    expect(deliveries(page.chat)).toEqual([["second", "sent"]]);
  });

  it("goes on being opened behind another chat", async () => {
    server.fault = (seen) => (seen.method === "POST" ? "refused" : undefined);
    page.chat.send("first");
    await settle();
    page.chat.open(session.id);
    server.fault = () => undefined;
    await settle(12_000);
    expect(current(page.chat).id).toBe(session.id);
    expect(page.chat.sessions.value).toHaveLength(2);
    expect(sends()).toHaveLength(1);
  });
});

describe("a reload in the middle of sending", () => {
  for (const fault of ["refused", "answer lost"] as const) {
    it(`neither loses nor doubles the message (${fault})`, async () => {
      session.say("hello");
      await settle();
      server.fault = (seen) => (isSend(seen) ? fault : undefined);
      page.chat.send("hello");
      await settle(10);
      page = reload(page, server);
      pages.push(page);
      const counts = new Set<number>();
      for (let i = 0; i < 20; i++) {
        await settle(50);
        counts.add(messages(page.chat).length);
      }
      // At no time is it there twice.
      expect(Math.max(...counts)).toBe(2);
      server.fault = () => undefined;
      await settle(12_000);
      expect(deliveries(page.chat)).toEqual([
        ["hello", "sent"],
        ["hello", "sent"],
      ]);
      expect(shown(page.chat)).toEqual(expected(session));
      expect(stored()).toEqual([]);
    });
  }

  it("keeps what has failed, to be sent again", async () => {
    server.fault = (seen) => (isSend(seen) ? { status: 409, detail: "Closed." } : undefined);
    page.chat.send("hello");
    await settle();
    page = reload(page, server);
    pages.push(page);
    await settle();
    expect(deliveries(page.chat)).toEqual([["hello", "failed"]]);
    server.fault = () => undefined;
    current(page.chat).resend(messages(page.chat)[0]?.key ?? "");
    await settle();
    expect(shown(page.chat)).toEqual(expected(session));
  });
});

describe("a message that was tried a day ago and not answered", () => {
  const DAY_MS = 24 * 3_600_000;

  /** A day passes; the sidecar remembers the request ids no more. */
  function dayPasses(): void {
    vi.setSystemTime(Date.now() + DAY_MS);
    server.forgetRequests();
    server.fault = () => undefined;
  }

  it("is not sent by itself, and is done with where it is in the log", async () => {
    server.fault = (seen) => (isSend(seen) ? "answer lost" : undefined);
    page.chat.send("hello");
    await settle(10);
    page.tab.crash();
    for (let i = 0; i < 70; i++) {
      session.say(`meanwhile ${i}`); // It is not on the newest page any more.
    }
    const before = sends().length;
    dayPasses();
    page = open(`#/${session.id}`);
    await settle(20_000);
    expect(sends()).toHaveLength(before);
    expect(stored()).toEqual([]);
    while (current(page.chat).hasOlder.value) {
      await current(page.chat).loadOlder();
    }
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("fails where it is not in the log, and goes under a new id when the person says so", async () => {
    session.say("hello"); // The same words, before it.
    await settle();
    server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
    page.chat.send("hello");
    page.chat.send("and this was never tried");
    await settle(10);
    dayPasses();
    page = reload(page, server);
    pages.push(page);
    const [id] = sends().map((each) => each.body.request_id);
    await settle(20_000);
    expect(deliveries(page.chat)).toEqual([
      ["hello", "sent"],
      ["and this was never tried", "sent"],
      ["hello", "failed"],
    ]);
    const failed = messages(page.chat)[2];
    expect(failed?.problem.value).toBe("It is not known whether this was sent.");
    current(page.chat).resend(failed?.key ?? "");
    expect(failed?.delivery.value).toBe("sending");
    await settle();
    expect(sends().at(-1)?.body).toMatchObject({ text: "hello" });
    expect(sends().at(-1)?.body.request_id).not.toBe(id);
    expect(messages(page.chat)[2]).toBe(failed);
    expect(shown(page.chat)).toEqual(expected(session));
    expect(stored()).toEqual([]);
  });

  it("is looked for until the log can be read, also in a tab that was open all the time", async () => {
    server.down = true;
    page.chat.send("hello");
    await settle(10);
    dayPasses();
    await settle(60_000);
    expect(deliveries(page.chat)).toEqual([["hello", "sending"]]);
    server.down = false;
    await settle(12_000);
    expect(deliveries(page.chat)).toEqual([["hello", "failed"]]);
    expect(session.items).toEqual([]);
  });

  it("is not taken for another one of the same words that is looked for as well", async () => {
    const second = open(`#/${session.id}`);
    await settle();
    server.fault = (seen) => (isSend(seen) ? "answer lost" : undefined);
    page.chat.send("yes");
    await settle(10);
    server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
    second.chat.send("yes");
    await settle(10);
    page.tab.crash();
    second.tab.crash();
    dayPasses();
    // The second one stands behind the first in the log as well, had it come there.
    for (const key of stored()) {
      const entry = { ...JSON.parse(browser.shared.get(key) ?? ""), after: 0 };
      browser.shared.set(key, JSON.stringify(entry));
    }
    page = open(`#/${session.id}`);
    await settle(20_000);
    expect(deliveries(page.chat)).toEqual([
      ["yes", "sent"],
      ["yes", "failed"],
    ]);
  });
});

describe("two tabs", () => {
  it("show the same, each sends its own", async () => {
    const second = open(`#/${session.id}`);
    await settle();
    server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
    page.chat.send("from the first");
    second.chat.send("from the second");
    await settle();
    server.fault = () => undefined;
    await settle(12_000);
    expect(new Set(sends().map((each) => each.body.request_id)).size).toBe(2);
    for (const { chat } of [page, second]) {
      expect(shown(chat)).toEqual(expected(session));
    }
  });

  it("one takes over what the other left when it crashed, and a new one at once without locks", async () => {
    for (const locks of [true, false]) {
      browser = new FakeBrowser(locks);
      const first = open();
      await settle();
      const other = server.log.open(server.userOf(first.tab));
      first.chat.open(other.id);
      const second = open(`#/${other.id}`);
      await settle();
      server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
      first.chat.send("left behind");
      await settle(10);
      const third = open(`#/${other.id}`);
      await settle();
      expect(messages(second.chat)).toEqual([]);
      expect(messages(third.chat)).toHaveLength(locks ? 0 : 1);
      first.tab.crash();
      server.fault = () => undefined;
      await settle(20_000);
      expect(shown(third.chat)).toEqual(expected(other));
      expect(deliveries(second.chat)).toEqual([["left behind", "sent"]]);
      expect(stored()).toEqual([]);
    }
  });

  it("a duplicated tab gets a name of its own", async () => {
    const copy = openPage(browser, server, "", new Map(page.tab.tab.values));
    pages.push(copy);
    await settle();
    expect(copy.tab.tab.values).not.toEqual(page.tab.tab.values);
  });
});

describe("a draft", () => {
  it("survives a reload and a crash, per chat", async () => {
    page.chat.setDraft("in the session");
    page.chat.newChat();
    expect(page.chat.draft.value).toBe("");
    page.chat.setDraft("in a new chat");
    page = reload(page, server);
    pages.push(page);
    await settle();
    expect(page.chat.draft.value).toBe("in a new chat");
    page.chat.open(session.id);
    expect(page.chat.draft.value).toBe("in the session");
    page.chat.setDraft("in the session, more");
    await settle(400);
    page.tab.crash();
    page = open(`#/${session.id}`);
    await settle();
    expect(page.chat.draft.value).toBe("in the session, more");
  });

  it("of a new chat is each tab's own; one that crashed leaves it to the next tab", async () => {
    page.chat.newChat();
    let second = open();
    await settle();
    page.chat.setDraft("one");
    await settle(400);
    second.chat.setDraft("two");
    await settle(400);
    page = reload(page, server);
    second = reload(second, server);
    pages.push(page, second);
    await settle();
    expect([page.chat.draft.value, second.chat.draft.value]).toEqual(["one", "two"]);
    page.chat.send("one");
    await settle(400);
    page.chat.newChat();
    expect(page.chat.draft.value).toBe("");
    page = reload(page, server);
    second = reload(second, server);
    pages.push(page, second);
    await settle();
    expect([page.chat.draft.value, second.chat.draft.value]).toEqual(["", "two"]);
    second.tab.crash();
    const third = open();
    await settle();
    expect(third.chat.draft.value).toBe("two");
    third.chat.send("two");
    await settle(400);
    const fourth = open();
    await settle();
    expect(fourth.chat.draft.value).toBe("");
    // Emptied by hand, it does not give way to what another tab has written since.
    third.chat.newChat();
    third.chat.setDraft("three");
    await settle(400);
    fourth.chat.setDraft("four");
    await settle(400);
    third.chat.setDraft("");
    await settle(400);
    page = reload(third, server);
    pages.push(page);
    expect(page.chat.draft.value).toBe("");
    expect(open().chat.draft.value).toBe("four");
    await settle();
  });

  it("goes with its session, and only so many are kept", async () => {
    page.chat.setDraft("gone with it");
    await settle(400);
    await page.chat.remove(session.id);
    const drafts = () => [...browser.shared.keys()].filter((key) => key.includes(":draft:"));
    expect(drafts()).toEqual([]);
    for (let i = 0; i < 60; i++) {
      page.chat.open(`ses_draft${i}`);
      page.chat.setDraft(`draft ${i}`);
      vi.advanceTimersByTime(400);
    }
    expect(drafts()).toHaveLength(50);
    expect(drafts()[0]).toContain("ses_draft10");
  });
});

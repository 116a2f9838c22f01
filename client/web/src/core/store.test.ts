import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession, Work } from "./testing/log.ts";
import {
  current,
  deliveries,
  messages,
  openPage,
  type Page,
  settle,
  shown,
} from "./testing/page.ts";
import { expected, FakeServer } from "./testing/server.ts";

let server: FakeServer;
let browser: FakeBrowser;
let pages: Page[];

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  browser = new FakeBrowser();
  pages = [];
});

afterEach(() => {
  expect(server.mostStreams).toBeLessThanOrEqual(1);
  for (const page of pages) {
    page.chat.close();
  }
  vi.useRealTimers();
});

async function open(hash = ""): Promise<Page> {
  const page = openPage(browser, server, hash);
  pages.push(page);
  await settle();
  return page;
}

/** A page on a session whose turn runs. */
async function turn(): Promise<Page & { session: FakeSession; work: Work }> {
  const page = await open();
  const session = server.log.open(server.userOf(page.tab));
  const { work } = session.say("question");
  page.chat.open(session.id);
  await settle();
  return { ...page, session, work };
}

describe("beginning", () => {
  it("signs a guest in, follows and is live", async () => {
    const { chat, tab } = await open();
    expect(chat.access.value).toBe("ready");
    expect(chat.connection.value).toBe("live");
    expect(chat.appOnline.value).toBe(true);
    expect(chat.maxTextBytes.value).toBe(4096);
    expect(server.userOf(tab)).not.toBe("");
    expect(server.seen.filter((each) => each.path === "/auth/guest")).toHaveLength(1);
  });

  it("says that there is no such app", async () => {
    server.fault = () => ({ status: 404, reason: "NOT_FOUND" });
    expect((await open()).chat.access.value).toBe("gone");
  });

  it("says that sign-in is needed where guests are not let in", async () => {
    server.signIn = ["email"];
    const { chat } = await open();
    expect(chat.access.value).toBe("signed-out");
    expect(server.seen.filter((each) => each.path === "/auth/guest")).toHaveLength(0);
  });

  it("follows the new guest that a lost cookie has made of who opens a chat", async () => {
    const { chat, tab } = await open();
    server.log.open(server.userOf(tab)).say("of before");
    await settle();
    expect(chat.sessions.value).toHaveLength(1);
    tab.browser.cookie = "";
    chat.newChat();
    chat.send("still there?");
    await settle(3_000);
    const [own] = server.log.of(server.userOf(tab));
    expect(own).toBeDefined();
    expect(chat.sessions.value.map((each) => each.id)).toEqual([own?.id]);
    own?.say("a new guest");
    await settle();
    expect(JSON.stringify(shown(chat))).toContain("a new guest");
    expect(chat.connection.value).toBe("live");
    expect(chat.notices.value.map((each) => each.text)).toEqual([
      "You were signed out. The chats of before are not yours to see any more.",
    ]);
  });

  it("goes on trying until the sidecar answers", async () => {
    server.down = true;
    const { chat } = await open();
    expect(chat.access.value).toBe("starting");
    await settle(5_000);
    expect(chat.connection.value).toBe("reconnecting");
    server.down = false;
    await settle(12_000);
    expect(chat.access.value).toBe("ready");
    expect(chat.connection.value).toBe("live");
  });

  it("shows the session that the address names", async () => {
    const first = await open();
    const session = server.log.open(server.userOf(first.tab));
    session.say("hello");
    const { chat } = await open(`#/${session.id}`);
    expect(shown(chat)).toEqual(expected(session));
    expect(current(chat).loading.value).toBe(false);
  });

  it("says that a session is gone which the address names", async () => {
    const { chat, tab } = await open("#/ses_nowhere");
    expect(chat.current.value).toBeNull();
    expect(chat.notices.value).toHaveLength(1);
    expect(tab.hash()).toBe("");
  });
});

describe("the conversation", () => {
  it("streams a reply into one item that becomes the message", async () => {
    const { chat, session, work } = await turn();
    session.status(work, "Thinking");
    await settle();
    expect(current(chat).statusLines.value.map((line) => line.text)).toEqual(["Thinking"]);
    const stream = session.openStream(work);
    session.delta(stream, "Hel");
    await settle();
    expect(current(chat).statusLines.value).toEqual([]);
    const [, item] = messages(chat);
    expect([item?.text.value, item?.streaming.value]).toEqual(["Hel", true]);
    const items = current(chat).items.value;
    session.delta(stream, "lo 😀");
    await settle();
    expect(item?.text.value).toBe("Hello 😀");
    expect(current(chat).items.value).toBe(items);
    session.delta(stream, "🎉!", 5);
    session.delta(stream, "?");
    await settle();
    expect(item?.text.value).toBe("Hello🎉!?");
    session.closeStream(stream);
    session.end(work);
    await settle();
    expect(messages(chat)[1]).toBe(item);
    expect(item?.streaming.value).toBe(false);
    expect(shown(chat)).toEqual(expected(session));
  });

  it("tells the screen of many deltas once per frame", async () => {
    const { chat, tab, session, work } = await turn();
    const stream = session.openStream(work);
    await settle();
    let told = -1;
    const off = messages(chat)[1]?.text.subscribe(() => {
      told += 1;
    });
    const frames = tab.frames;
    for (let i = 0; i < 200; i++) {
      session.delta(stream, `word ${i} `);
      await settle(5);
    }
    off?.();
    expect(told).toBeGreaterThan(30);
    expect(told).toBeLessThanOrEqual(tab.frames - frames);
    expect(tab.frames - frames).toBeLessThan(70);
    expect(shown(chat)).toEqual(expected(session));
  });

  it("shows the text so far of a session that is opened in the middle of a stream", async () => {
    const { chat } = await open();
    const session = server.log.open(server.userOf(pages[0]?.tab ?? never()));
    const { work } = session.say("question");
    const stream = session.openStream(work);
    session.delta(stream, "so far");
    await settle();
    chat.open(session.id);
    await settle(1);
    expect(shown(chat)).toEqual(expected(session));
    session.delta(stream, ", and on");
    await settle();
    expect(shown(chat)).toEqual(expected(session));
  });

  it("changes blocks in place, withdraws streams and shows how turns ended", async () => {
    const { chat, session, work } = await turn();
    session.block(work, "b1", { n: 1 });
    const stream = session.openStream(work);
    session.delta(stream, "gone");
    await settle();
    const block = current(chat).items.value[1];
    session.block(work, "b1", { n: 2 });
    session.withdraw(stream);
    session.end(work, "INVOCATION_STATUS_FAILED", "HANDLER_ERROR");
    await settle();
    expect(current(chat).items.value[1]).toBe(block);
    expect(shown(chat)).toEqual(expected(session));
    expect(shown(chat).at(-1)).toEqual(["ended", "HANDLER_ERROR"]);
  });

  it("sorts replies to the turn they belong to", async () => {
    const { chat, session, work } = await turn();
    session.say("second question");
    session.reply(work, "first answer");
    await settle();
    expect(shown(chat)).toEqual(expected(session));
    expect(messages(chat)[1]?.text.value).toBe("first answer");
  });

  it("stops what runs, and says so until it has ended", async () => {
    const { chat, session } = await turn();
    const [enter] = session.work.values();
    session.end(enter ?? never());
    await settle();
    expect(current(chat).busy.value).toBe(true);
    server.fault = (seen) => (seen.path.endsWith("/stop") ? "answer late" : undefined);
    void current(chat).stop();
    expect(current(chat).stopping.value).toBe(true);
    await settle();
    server.release();
    await settle();
    expect(current(chat).stopping.value).toBe(false);
    expect(current(chat).busy.value).toBe(false);
    expect(shown(chat).at(-1)).toEqual(["ended", "STOPPED"]);
  });

  it("loads older items without a gap, also those that change meanwhile", async () => {
    const { chat, session, work } = await turn();
    session.block(work, "old", { n: 1 });
    for (let i = 0; i < 120; i++) {
      session.say(`message ${i}`);
    }
    const late = await open(`#/${session.id}`);
    expect(messages(late.chat)).toHaveLength(50);
    expect(current(late.chat).hasOlder.value).toBe(true);
    session.block(work, "old", { n: 2 });
    server.fault = (seen) => (seen.path.endsWith(session.id) ? "answer late" : undefined);
    for (let i = 0; i < 2; i++) {
      const loading = current(late.chat).loadOlder();
      await settle();
      session.block(work, "old", { n: 3 + i });
      session.say(`meanwhile ${i}`);
      await settle();
      server.release();
      await loading;
    }
    expect(current(late.chat).hasOlder.value).toBe(false);
    expect(shown(late.chat)).toEqual(expected(session));
    expect(shown(chat)).toEqual(expected(session));
  });
});

describe("the session list", () => {
  it("is kept up by what happens elsewhere", async () => {
    const { chat, tab } = await open();
    const user = server.userOf(tab);
    const [a, b] = [server.log.open(user), server.log.open(user)];
    await settle();
    expect(chat.sessions.value.map((each) => each.id)).toEqual([b.id, a.id]);
    a.say("up");
    a.rename("Alpha");
    await settle();
    expect(chat.sessions.value.map((each) => each.title)).toEqual(["Alpha", ""]);
    server.log.remove(b);
    await settle();
    expect(chat.sessions.value.map((each) => each.id)).toEqual([a.id]);
  });

  it("pages, and brings up a session from beyond the pages", async () => {
    const { chat: first, tab } = await open();
    const user = server.userOf(tab);
    const all = Array.from({ length: 120 }, () => server.log.open(user));
    await settle();
    expect(first.sessions.value).toHaveLength(120);
    const { chat } = await open();
    expect(chat.sessions.value).toHaveLength(50);
    expect(chat.hasMoreSessions.value).toBe(true);
    all[3]?.say("again");
    await settle();
    expect(chat.sessions.value[0]?.id).toBe(all[3]?.id);
    await chat.moreSessions();
    await chat.moreSessions();
    expect(chat.hasMoreSessions.value).toBe(false);
    expect(chat.sessions.value.map((each) => each.id)).toEqual(
      server.log.of(user).map((each) => each.id),
    );
  });

  it("searches at the server, after a moment, and goes back", async () => {
    const { tab } = await open();
    const user = server.userOf(tab);
    for (let i = 0; i < 70; i++) {
      server.log.open(user).rename(i === 0 ? "The needle" : `Hay ${i}`);
    }
    const { chat } = await open();
    chat.search("NEED");
    await settle(100);
    chat.search("NEEDL");
    await settle(1000);
    expect(chat.sessions.value.map((each) => each.title)).toEqual(["The needle"]);
    const lists = server.seen.filter((each) => each.path === "/v1/sessions");
    chat.search("");
    await settle(1000);
    expect(chat.sessions.value).toHaveLength(50);
    expect(server.seen.filter((each) => each.path === "/v1/sessions")).toHaveLength(lists.length);
  });

  it("keeps a session on screen up to date that only a search has found", async () => {
    const { chat, tab } = await open();
    const user = server.userOf(tab);
    const sessions = Array.from({ length: 60 }, () => server.log.open(user));
    const [deep] = sessions;
    deep?.rename("needle");
    chat.close();
    const again = await open();
    again.chat.search("needle");
    await settle(400);
    again.chat.open(deep?.id ?? "");
    await settle();
    again.chat.search("");
    await settle(400);
    expect(again.chat.sessions.value).toHaveLength(50);
    deep?.rename("pin");
    await settle();
    expect(current(again.chat).entry.value.title).toBe("pin");
  });

  it("renames at once and takes it back where that fails", async () => {
    const { chat, session } = await turn();
    server.fault = () => ({ status: 400, reason: "INVALID_ARGUMENT", detail: "Too long." });
    const done = chat.rename(session.id, "Other");
    expect(chat.sessions.value[0]?.title).toBe("Other");
    await done;
    expect(chat.sessions.value[0]?.title).toBe("");
    expect(chat.notices.value[0]?.text).toContain("Too long.");
  });

  it("leaves a session that is deleted here or elsewhere", async () => {
    const { chat, tab, session } = await turn();
    server.log.remove(session);
    await settle();
    expect(chat.current.value).toBeNull();
    expect(tab.hash()).toBe("");
    const other = server.log.open(server.userOf(tab));
    chat.open(other.id);
    await settle();
    await chat.remove(other.id);
    await settle();
    expect([chat.current.value, chat.sessions.value]).toEqual([null, []]);
  });

  it("goes back and forth with the browser's history, and keeps few timelines", async () => {
    const { chat, tab } = await open();
    const user = server.userOf(tab);
    const all = Array.from({ length: 8 }, () => server.log.open(user));
    for (const each of all) {
      each.say(`in ${each.id}`);
      chat.open(each.id);
      await settle();
    }
    tab.back();
    await settle();
    expect(current(chat).id).toBe(all[6]?.id);
    const fetched = () => server.seen.filter((each) => each.path.endsWith(all[0]?.id ?? "")).length;
    const before = fetched();
    chat.open(all[0]?.id ?? "");
    await settle();
    expect(fetched()).toBe(before + 1);
    expect(deliveries(chat)).toEqual([[`in ${all[0]?.id}`, "sent"]]);
  });
});

function never(): never {
  throw new Error("not there");
}

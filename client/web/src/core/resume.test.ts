import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession, Work } from "./testing/log.ts";
import { current, openPage, type Page, settle, shown } from "./testing/page.ts";
import { expected, FakeServer } from "./testing/server.ts";

let server: FakeServer;
let browser: FakeBrowser;
let page: Page;
let session: FakeSession;
let work: Work;

async function begin(): Promise<void> {
  server = new FakeServer();
  browser = new FakeBrowser();
  page = openPage(browser, server);
  await settle();
  session = server.log.open(server.userOf(page.tab));
  work = session.say("question").work;
  page.chat.open(session.id);
  await settle();
}

function follows(): number {
  return server.seen.filter((each) => each.path === "/v1/events").length;
}

beforeEach(async () => {
  vi.useFakeTimers();
  await begin();
});

afterEach(() => {
  page.chat.close();
  expect(server.mostStreams).toBeLessThanOrEqual(1);
  expect(server.followers.size).toBe(0);
  vi.useRealTimers();
});

describe("the line", () => {
  it("goes on where it was cut, with what has passed meanwhile", async () => {
    const stream = session.openStream(work);
    session.delta(stream, "before, ");
    await settle();
    server.down = true;
    server.cutAll();
    await settle(10);
    expect(page.chat.connection.value).toBe("reconnecting");
    session.delta(stream, "meanwhile 😀, ");
    session.say("from another tab");
    await settle(3_000);
    expect(shown(page.chat)).toHaveLength(2);
    server.down = false;
    await settle(10_000);
    session.delta(stream, "after");
    await settle();
    expect(page.chat.connection.value).toBe("live");
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("waits longer from attempt to attempt, and not at all when the network is back", async () => {
    server.down = true;
    browser.online = false;
    page.tab.fire("offline");
    expect(page.chat.connection.value).toBe("live");
    server.cutAll();
    await settle(1);
    expect(page.chat.connection.value).toBe("offline");
    const before = follows();
    await settle(60_000);
    expect(follows() - before).toBeGreaterThan(5);
    server.down = false;
    server.fault = (seen) =>
      seen.path === "/v1/events" ? { status: 503, retryAfter: 20 } : undefined;
    browser.online = true;
    await settle(6_000);
    const refused = follows();
    await settle(12_000);
    expect(follows()).toBe(refused);
    server.fault = () => undefined;
    page.tab.fire("online");
    await settle(1);
    expect(page.chat.connection.value).toBe("live");
  });

  it("is begun again when it is silent for 35 s, and not while it beats", async () => {
    const before = follows();
    for (let i = 0; i < 8; i++) {
      await settle(15_000);
      server.beat();
    }
    expect(follows()).toBe(before);
    await settle(34_000);
    expect(follows()).toBe(before);
    await settle(1_500);
    expect(follows()).toBe(before + 1);
    expect(page.chat.connection.value).toBe("live");
  });

  it("is begun again at once after sleep", async () => {
    const before = follows();
    page.tab.slept += 3_600_000;
    await settle(5_100);
    expect(follows()).toBe(before + 1);
  });

  it("is begun again when somebody looks at a page whose line may be dead", async () => {
    const before = follows();
    page.tab.fire("visibilitychange");
    expect(follows()).toBe(before);
    await settle(21_000);
    page.tab.fire("visibilitychange");
    expect(follows()).toBe(before + 1);
    page.tab.fire("pageshow", { persisted: true });
    await settle();
    expect(follows()).toBe(before + 2);
    expect(page.chat.connection.value).toBe("live");
  });

  it("comes back when the sidecar stops in order", async () => {
    server.endAll(503, "SHUTTING_DOWN");
    session.say("after the restart");
    await settle(1_000);
    expect(page.chat.connection.value).toBe("live");
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("survives what is not JSON", async () => {
    server.raw("data: {nonsense\n\n");
    await settle(1_000);
    session.say("goes on");
    await settle();
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("does not listen to a stream that was given up", async () => {
    const [stale] = server.followers;
    if (stale === undefined) {
      throw new Error("nobody follows");
    }
    page.tab.fire("pageshow", { persisted: true });
    await settle();
    expect([stale.open, server.followers.size]).toEqual([false, 1]);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("loads everything anew where its position is unknown", async () => {
    const other = server.log.open(server.userOf(page.tab));
    await settle();
    // The sidecar was set back to a copy of yesterday.
    server.log.position -= 5;
    server.log.sessions.delete(other.id);
    session.title = "Yesterday";
    server.cutAll();
    await settle(2_000);
    expect(page.chat.connection.value).toBe("live");
    expect(page.chat.sessions.value.map((each) => [each.id, each.title])).toEqual([
      [session.id, "Yesterday"],
    ]);
    server.log.position += 5;
    session.reply(work, "goes on");
    await settle();
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("signs a guest in anew where the cookie is lost, in all tabs", async () => {
    const second = openPage(browser, server);
    await settle();
    browser.cookie = "";
    server.cutAll();
    await settle(3_000);
    expect(page.chat.connection.value).toBe("live");
    expect(page.chat.access.value).toBe("ready");
    expect(page.chat.sessions.value).toEqual([]);
    expect(page.chat.current.value).toBeNull();
    const own = server.log.open(server.userOf(page.tab));
    own.say("mine");
    await settle();
    for (const { chat } of [page, second]) {
      expect(chat.sessions.value.map((each) => each.id)).toEqual([own.id]);
    }
    expect(server.guests).toBe(2);
    second.chat.close();
  });

  it("follows the person that another tab has signed in, though its own stream still runs", async () => {
    server.fault = (seen) => (seen.path.endsWith("/messages") ? { status: 401 } : undefined);
    page.chat.send("who am I");
    await settle(10);
    server.fault = () => undefined;
    const earlier = browser.shared.get("capsule:demo:user");
    browser.shared.set("capsule:demo:user", "user_other");
    page.tab.fire("storage", { key: "capsule:demo:user", newValue: "user_other" });
    await settle(2_000);
    expect(browser.shared.get("capsule:demo:user")).toBe(earlier);
    expect(page.chat.connection.value).toBe("live");
  });

  it("does not run hot where everything but signing in is refused", async () => {
    const before = server.seen.length;
    server.fault = (seen) =>
      ["/v1/events", "/messages"].some((end) => seen.path.endsWith(end))
        ? { status: 401 }
        : undefined;
    page.chat.send("hello");
    server.cutAll();
    await settle(60_000);
    expect(server.seen.length - before).toBeLessThan(200);
    server.fault = () => undefined;
    await settle(15_000);
    expect(page.chat.connection.value).toBe("live");
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("fetches a session again whose events leave a gap", async () => {
    const event = session.events.at(-1);
    const offset = String(session.head + 3);
    server.raw(`data: ${JSON.stringify({ event: { ...event, offset, position: "1" } })}\n\n`);
    await settle(1_000);
    for (let i = 0; i < 5; i++) {
      session.say(`more ${i}`);
    }
    await settle(12_000);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("gets the text again where a delta leaves a gap", async () => {
    const stream = session.openStream(work);
    session.delta(stream, "one ");
    await settle();
    const lost = server.cut;
    server.cut = () => [];
    session.delta(stream, "two ");
    server.cut = lost;
    session.delta(stream, "three");
    await settle(1_000);
    expect(shown(page.chat)).toEqual(expected(session));
  });

  it("holds what comes ahead of its event", async () => {
    const frame = { session_id: session.id, after_offset: String(session.head + 1) };
    const delta = { stream_id: "ahead", position: "0", text: "early" };
    server.raw(`data: ${JSON.stringify({ transient: { ...frame, text_delta: delta } })}\n\n`);
    await settle();
    const at = String(session.head + 1);
    const opened = { stream_id: "ahead", message_id: "msg_ahead" };
    session.append({ invocation_id: work.id, stream_opened: opened, place: "2", item_offset: at });
    await settle();
    expect(shown(page.chat).at(-1)).toEqual(["app", "early", false, true]);
  });

  it("applies what has come while a page was fetched, though nothing follows", async () => {
    const other = server.log.open(server.userOf(page.tab));
    server.fault = (seen) => (seen.path.endsWith(other.id) ? "answer late" : undefined);
    page.chat.open(other.id);
    await settle();
    other.say("meanwhile");
    await settle();
    expect(shown(page.chat)).toEqual([]);
    server.fault = () => undefined;
    server.release();
    await settle();
    expect(shown(page.chat)).toEqual(expected(other));
  });

  it("asks only for what it has not read", async () => {
    session.say("read");
    await settle();
    server.cutAll();
    await settle(1_000);
    expect(server.after).toBe(server.log.position);
  });

  it("catches up by itself when more has come than it keeps while a page is fetched", async () => {
    server.fault = (seen) => (seen.path.endsWith("/late") ? "answer late" : undefined);
    const other = server.log.open(server.userOf(page.tab));
    server.fault = (seen) => (seen.path.endsWith(other.id) ? "answer late" : undefined);
    page.chat.open(other.id);
    await settle();
    for (let i = 0; i < 4_100; i++) {
      other.rename(`title ${i}`);
    }
    other.say("the end");
    await settle();
    server.fault = () => undefined;
    server.release();
    await settle(5_000);
    expect(shown(page.chat)).toEqual(expected(other));
    other.say("and on");
    await settle();
    expect(shown(page.chat)).toEqual(expected(other));
  });
});

type Step =
  | { do: "say" | "reply" | "end" | "block" | "status" | "other" | "ask" | "answer"; n: number }
  | { do: "open" | "close" | "withdraw"; n: number }
  | { do: "delta" | "replace"; n: number; text: string }
  | { do: "cut" | "down" | "show" | "leave" | "refetch" | "older"; n: number }
  | { do: "wait"; n: number };

const text = fc.string({ unit: "binary", minLength: 1, maxLength: 6 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("delta" as const), n: fc.nat(9), text }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("replace" as const), n: fc.nat(9), text }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom(
        "say",
        "reply",
        "end",
        "block",
        "status",
        "open",
        "close",
        "other",
        "ask",
        "answer",
      ),
      n: fc.nat(9),
    }) as fc.Arbitrary<Step>,
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("withdraw", "cut", "down", "show", "leave", "refetch", "older"),
      n: fc.nat(9),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("wait" as const), n: fc.nat(400) }) },
);

function pick<T>(all: Iterable<T>, n: number): T | undefined {
  const list = [...all];
  return list[n % Math.max(1, list.length)];
}

/** Does a step in the log. */
function act(each: Step): void {
  const running = pick(session.work.values(), each.n) ?? work;
  const stream = pick(session.streams.keys(), each.n) ?? "";
  switch (each.do) {
    case "say":
      session.say(`say ${each.n}`);
      break;
    case "reply":
      session.reply(running, `reply ${each.n}`);
      break;
    case "end":
      session.end(
        running,
        each.n % 2 ? "INVOCATION_STATUS_COMPLETED" : "INVOCATION_STATUS_FAILED",
        `R${each.n}`,
      );
      break;
    case "block":
      session.block(running, `b${each.n % 3}`, { n: session.head });
      break;
    case "ask":
      session.ask(running, { approval: { approve_label: "Yes", reject_label: "No" } });
      break;
    case "answer":
      session.endPrompt(pick(session.openPrompts(), each.n)?.prompt?.prompt_id ?? "", {
        status: each.n % 2 ? "PROMPT_STATUS_EXPIRED" : "PROMPT_STATUS_DISMISSED",
      });
      break;
    case "status":
      session.status(running, `status ${each.n}`);
      break;
    case "open":
      session.openStream(running);
      break;
    case "close":
      session.closeStream(stream, each.n % 3 === 0);
      break;
    case "withdraw":
      session.withdraw(stream);
      break;
    case "delta":
      session.delta(stream, each.text);
      break;
    case "replace":
      session.delta(stream, each.text, each.n);
      break;
    case "other":
      server.log.open(server.userOf(page.tab)).say("elsewhere");
      break;
    default:
      break;
  }
}

/** Does a step to the page or its line. */
async function disturb(each: Step): Promise<void> {
  switch (each.do) {
    case "cut":
      server.cutAll();
      break;
    case "down":
      server.down = true;
      server.cutAll();
      await settle(each.n * 300);
      server.down = false;
      break;
    case "leave":
      page.chat.newChat();
      break;
    case "show":
      page.chat.open(session.id);
      break;
    case "refetch":
      server.fault = (seen) => (seen.path.endsWith(session.id) ? "answer late" : undefined);
      for (let i = 0; i < 7; i++) {
        page.chat.open(server.log.of(server.userOf(page.tab))[i]?.id ?? session.id);
      }
      page.chat.open(session.id);
      break;
    case "older":
      void page.chat.current.peek()?.loadOlder();
      break;
    case "wait":
      await settle(each.n);
      server.fault = () => undefined;
      server.release();
      break;
    default:
      break;
  }
}

/** Cuts bytes into parts of the given lengths, in turn; parts are now and then sent twice over. */
function cutter(lengths: readonly number[]): (bytes: Uint8Array) => Uint8Array[] {
  let turn = 0;
  return (bytes) => {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = 1 + (lengths[turn++ % lengths.length] ?? 0);
      parts.push(bytes.slice(at, at + length));
      at += length;
    }
    return parts;
  };
}

describe("whatever happens to the line", () => {
  const lengths = fc.array(fc.nat(200), { minLength: 1, maxLength: 10 });

  it("the page shows what the log holds: no gap, no duplicate", { timeout: 120_000 }, async () => {
    const property = fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      lengths,
      async (steps, cuts) => {
        page.chat.close();
        await begin();
        server.cut = cutter(cuts);
        for (const each of steps) {
          act(each);
          await disturb(each);
          const keys = page.chat.current.peek()?.items.peek() ?? [];
          expect(new Set(keys.map((item) => item.key)).size).toBe(keys.length);
        }
        server.fault = () => undefined;
        server.release();
        page.chat.open(session.id);
        await settle(30_000);
        while (current(page.chat).hasOlder.peek()) {
          await current(page.chat).loadOlder();
        }
        await settle(1_000);
        expect(page.chat.connection.value).toBe("live");
        expect(shown(page.chat)).toEqual(expected(session));
        expect(current(page.chat).statusLines.value.map((line) => line.text)).toEqual(
          [...session.lines.values()].map((line) => line.text),
        );
        const open = session.openPrompts().map((each) => each.prompt?.prompt_id);
        const { waiting } = current(page.chat).prompts;
        expect(new Set(waiting.value.map((each) => each.promptId))).toEqual(new Set(open));
        expect(page.chat.waiting.value.has(session.id)).toBe(open.length > 0);
        expect(current(page.chat).busy.value).toBe(session.work.size > 0);
        expect(page.chat.sessions.value.map((each) => each.id)).toEqual(
          server.log.of(server.userOf(page.tab)).map((each) => each.id),
        );
      },
    );
    await fc.assert(property, { numRuns: 150 });
  });

  it("events that come twice change nothing", async () => {
    session.block(work, "b", { n: 1 });
    const stream = session.openStream(work);
    session.delta(stream, "text");
    session.closeStream(stream);
    session.block(work, "b", { n: 2 });
    for (const event of session.events) {
      server.raw(`data: ${JSON.stringify({ event })}\n\n`);
    }
    await settle();
    expect(shown(page.chat)).toEqual(expected(session));
  });
});

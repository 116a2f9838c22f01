import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Prompt } from "../wire.ts";
import type { PromptItem } from "./model.ts";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession, Work } from "./testing/log.ts";
import { current, openPage, type Page, reload, settle } from "./testing/page.ts";
import { FakeServer, type Fault, type Seen } from "./testing/server.ts";

let server: FakeServer;
let browser: FakeBrowser;
let pages: Page[];
let page: Page;
let session: FakeSession;
let work: Work;

const approval = { approve_label: "Yes", reject_label: "No" };
const isAnswer = (seen: Seen) => seen.path.endsWith("/answer");
const answers = () => server.seen.filter(isAnswer);

function open(hash = ""): Page {
  const made = openPage(browser, server, hash);
  pages.push(made);
  return made;
}

async function ask(more: Prompt = { approval }): Promise<PromptItem> {
  const id = session.ask(work, more);
  await settle();
  const item = prompts().find((each) => each.promptId === id);
  if (!item) throw new Error("the prompt is not shown");
  return item;
}

function prompts(of = page): PromptItem[] {
  return current(of.chat)
    .items.peek()
    .filter((each) => each.kind === "prompt");
}

/** The prompt's state in a page: status, what was answered, why not. */
function state(item: PromptItem) {
  return [item.status.value, item.answer.value, item.problem.value];
}

const yes = { kind: "approval", approved: true } as const;
const no = { kind: "approval", approved: false } as const;

beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  browser = new FakeBrowser();
  pages = [];
  page = open();
  await settle();
  session = server.log.open(server.userOf(page.tab));
  ({ work } = session.say("question"));
  page.chat.open(session.id);
  await settle();
});

afterEach(() => {
  for (const each of pages) {
    each.chat.close();
  }
  vi.useRealTimers();
});

describe("a prompt", () => {
  it("is shown in its place, waits, and marks its session", async () => {
    session.say("queued behind it");
    const item = await ask({ message: "Well?", choice: { options: ["a", "b"] } });
    expect(
      current(page.chat)
        .items.peek()
        .map((each) => each.kind),
    ).toEqual(["message", "prompt", "message"]);
    expect(item.question).toEqual({ kind: "choice", options: ["a", "b"] });
    expect(current(page.chat).prompts.waiting.value).toEqual([item]);
    expect(page.chat.waiting.value).toEqual(new Set([session.id]));
    session.end(work);
    await settle();
    expect(state(item)).toEqual(["withdrawn", null, ""]);
    expect(page.chat.waiting.value.size).toBe(0);
    expect(prompts()).toEqual([item]);
  });

  it("waits where it lies before what is loaded, and is the same when that comes", async () => {
    const item = await ask();
    for (let i = 0; i < 120; i++) {
      session.block(work, `b${i}`, { i });
    }
    const other = open(`#/${session.id}`);
    await settle();
    expect(prompts(other)).toEqual([]);
    const [waiting] = current(other.chat).prompts.waiting.value;
    expect(waiting?.promptId).toBe(item.promptId);
    while (current(other.chat).hasOlder.peek()) {
      await current(other.chat).loadOlder();
    }
    expect(prompts(other)).toEqual([waiting]);
    session.endPrompt(item.promptId, { status: "PROMPT_STATUS_EXPIRED" });
    await settle();
    expect(waiting?.status.value).toBe("expired");
  });

  it("marks sessions that are not looked at, also those of before the page was opened", async () => {
    const elsewhere = server.log.open(server.userOf(page.tab));
    const id = elsewhere.ask(elsewhere.say("other").work, { approval });
    const other = open();
    await settle();
    for (const { chat } of [page, other]) {
      expect(chat.waiting.value).toEqual(new Set([elsewhere.id]));
    }
    elsewhere.endPrompt(id, { status: "PROMPT_STATUS_DISMISSED" });
    await settle();
    expect(page.chat.waiting.value.size + other.chat.waiting.value.size).toBe(0);
    elsewhere.ask(elsewhere.say("again").work, { approval });
    await settle();
    server.log.remove(elsewhere);
    await settle();
    expect(page.chat.waiting.value.size).toBe(0);
  });

  it("is one thing from its first sight on, whatever of a page comes first or late", async () => {
    const item = await ask();
    session.say("queued behind it");
    let pages = 0;
    server.fault = ({ path }) => {
      pages += path.endsWith(session.id) ? 1 : 0;
      const late = path.endsWith("/sessions") || (path.endsWith(session.id) && pages > 1);
      return late ? "answer late" : undefined;
    };
    const other = open(`#/${session.id}`);
    await settle();
    const [first] = prompts(other);
    expect(first?.promptId).toBe(item.promptId);
    // The list is there, and what the page has is asked for anew: it is on screen all the while.
    const seen: (readonly PromptItem[])[] = [];
    const { waiting } = current(other.chat).prompts;
    const stop = waiting.subscribe((value) => void seen.push(value));
    server.release();
    await settle();
    expect([other.chat.connection.value, pages]).toEqual(["live", 2]);
    expect(waiting.value[0]).toBe(prompts(other)[0]);
    server.release();
    await settle();
    stop();
    expect(prompts(other)[0]).toBe(first);
    expect(seen).toEqual([[first]]);
  });

  it("that ended while everything was loaded anew has ended, also where it is not loaded", async () => {
    const item = await ask();
    for (let i = 0; i < 120; i++) {
      session.block(work, `b${i}`, { i });
    }
    page = reload(page, server);
    pages.push(page);
    await settle();
    const [waiting] = current(page.chat).prompts.waiting.value;
    expect([waiting?.promptId, prompts()]).toEqual([item.promptId, []]);
    server.down = true;
    server.cutAll();
    session.endPrompt(item.promptId, { status: "PROMPT_STATUS_EXPIRED" });
    server.fault = ({ path }) => (path.endsWith("/events") ? { status: 416 } : undefined);
    server.down = false;
    await settle(5_000);
    server.fault = () => undefined;
    await settle(60_000);
    expect(page.chat.connection.value).toBe("live");
    expect(current(page.chat).prompts.waiting.value).toEqual([]);
  });

  it("that ended while the page with it was on its way has ended", async () => {
    const item = await ask();
    server.fault = (seen) => (seen.path.endsWith(session.id) ? "answer late" : undefined);
    const other = open(`#/${session.id}`);
    await settle();
    session.endPrompt(item.promptId, { status: "PROMPT_STATUS_EXPIRED" });
    await settle();
    server.fault = () => undefined;
    server.release();
    await settle();
    expect(prompts(other).map((each) => each.status.value)).toEqual(["expired"]);
    expect(other.chat.waiting.value.size).toBe(0);
  });

  it("has zeros for answers that JSON leaves out", async () => {
    const one = await ask();
    const two = await ask({ choice: { options: ["a", "b"] } });
    session.endPrompt(one.promptId, { status: "PROMPT_STATUS_ANSWERED" });
    session.endPrompt(two.promptId, { status: "PROMPT_STATUS_ANSWERED" });
    await settle();
    expect(one.answer.value).toEqual({ kind: "approval", approved: false });
    expect(two.answer.value).toEqual({ kind: "choice", option: 0 });
  });

  it("of a kind that is not known can still be dismissed", async () => {
    const item = await ask({});
    expect(item.question.kind).toBe("unknown");
    await current(page.chat).prompts.answer(item, { kind: "dismiss" });
    expect(item.status.value).toBe("dismissed");
  });

  it("ends by the clock of this device", async () => {
    const ahead = new Date(Date.now() + 3_600_000);
    const whole = server.fetch.bind(server);
    server.fetch = async (...given) => {
      const response = await whole(...given);
      response.headers.set("Date", ahead.toUTCString());
      return response;
    };
    await page.chat.moreSessions();
    await page.chat.rename(session.id, "ahead");
    const item = await ask({
      approval,
      expire_time: new Date(ahead.getTime() + 60_000).toISOString(),
    });
    const left = (item.expireTime?.getTime() ?? 0) - Date.now();
    expect(left).toBeGreaterThan(55_000);
    expect(left).toBeLessThan(65_000);
  });
});

describe("an answer", () => {
  it("is on its way at once, and given once", async () => {
    const item = await ask();
    const first = current(page.chat).prompts.answer(item, yes);
    expect(item.answering.value).toEqual(yes);
    void current(page.chat).prompts.answer(item, no); // A second click.
    await settle();
    await first;
    expect(item.answering.value).toBeNull();
    expect(state(item)).toEqual(["answered", yes, ""]);
    expect(item.late.value).toBe(false);
    expect(answers().map(({ body }) => body.approved)).toEqual([true]);
  });

  it.each<[string, Fault]>([
    ["that did not arrive", "refused"],
    ["whose own answer was lost", "answer lost"],
    ["that found the server busy", { status: 503 }],
  ])("%s is given again under the same request id", async (_, fault) => {
    const item = await ask();
    let faults = 2;
    server.fault = (seen) => (isAnswer(seen) && faults-- > 0 ? fault : undefined);
    void current(page.chat).prompts.answer(item, yes);
    await settle(10_000);
    expect(state(item)).toEqual(["answered", yes, ""]);
    expect(item.late.value).toBe(false);
    expect(new Set(answers().map(({ body }) => body.request_id)).size).toBe(1);
  });

  it("goes on at once when the line is back", async () => {
    const item = await ask();
    server.down = true;
    server.cutAll();
    void current(page.chat).prompts.answer(item, yes);
    await settle(6_000);
    expect(item.answering.value).toEqual(yes);
    server.down = false;
    page.tab.fire("online");
    await settle(500);
    expect(item.status.value).toBe("answered");
  });

  it("that cannot be given says so, and is given again under the same request id", async () => {
    const item = await ask();
    server.fault = (seen) => (isAnswer(seen) ? { status: 503, detail: "Not now." } : undefined);
    void current(page.chat).prompts.answer(item, yes);
    await settle(120_000);
    expect(item.answering.value).toBeNull();
    expect(state(item)).toEqual(["open", null, "Not now."]);
    server.fault = () => undefined;
    void current(page.chat).prompts.retry(item);
    await settle();
    expect(state(item)).toEqual(["answered", yes, ""]);
    expect(new Set(answers().map(({ body }) => body.request_id)).size).toBe(1);
  });

  it("that is refused is not repeated; another one is another request", async () => {
    const item = await ask();
    server.fault = (seen) => (isAnswer(seen) ? { status: 400, detail: "Not that." } : undefined);
    void current(page.chat).prompts.answer(item, yes);
    await settle(60_000);
    expect(item.problem.value).toBe("Not that.");
    expect(answers()).toHaveLength(1);
    server.fault = () => undefined;
    void current(page.chat).prompts.answer(item, no);
    await settle();
    expect(state(item)).toEqual(["answered", no, ""]);
    expect(new Set(answers().map(({ body }) => body.request_id)).size).toBe(2);
  });

  it("of another device that was first counts, and it is said", async () => {
    const item = await ask();
    server.fault = (seen) => (isAnswer(seen) ? "refused" : undefined);
    void current(page.chat).prompts.answer(item, yes);
    await settle(1);
    const theirs = { ...approval, answer: false };
    session.endPrompt(item.promptId, { status: "PROMPT_STATUS_ANSWERED", approval: theirs });
    server.fault = () => undefined;
    await settle(5_000);
    expect(state(item)).toEqual(["answered", no, ""]);
    expect(item.late.value).toBe(true);
  });

  it("that counts is not said to be late where its event was here first", async () => {
    const item = await ask();
    server.fault = (seen) => (isAnswer(seen) ? "answer late" : undefined);
    void current(page.chat).prompts.answer(item, yes);
    await settle();
    expect(state(item)).toEqual(["answered", yes, ""]);
    server.release();
    await settle();
    expect([item.late.value, item.answering.value]).toEqual([false, null]);
  });

  it("is seen in another tab", async () => {
    const other = open(`#/${session.id}`);
    await settle();
    const item = await ask();
    const [there] = prompts(other);
    await current(page.chat).prompts.answer(item, no);
    await settle();
    expect(there && state(there)).toEqual(["answered", no, ""]);
    expect(there?.late.value).toBe(false);
  });
});

describe("an answer that is refused", () => {
  it.each([403, 404, 409, 413])(
    "with %i is told of, and leaves the question open",
    async (status) => {
      const item = await ask();
      server.fault = (seen) => (isAnswer(seen) ? { status } : undefined);
      void current(page.chat).prompts.answer(item, yes);
      await settle(5000);
      expect(item.answering.value).toBeNull();
      expect(state(item)).toEqual(["open", null, expect.stringMatching(/./)]);
    },
  );

  it("without a word is told of", async () => {
    const item = await ask();
    vi.spyOn(session, "endPrompt").mockReturnValue(false);
    void current(page.chat).prompts.answer(item, yes);
    await settle();
    expect(state(item)).toEqual(["open", null, "The server has not taken the answer."]);
  });
});

describe("an answer with a file", () => {
  const file = () => new File(["%PDF"], "contract.pdf", { type: "application/pdf" });

  it("is uploaded and given, also while another session is on screen", async () => {
    const item = await ask({ file: { accept: ".pdf" } });
    current(page.chat).prompts.answerWithFile(item, file());
    expect(item.upload.value?.name).toBe("contract.pdf");
    page.chat.newChat();
    await settle(10_000);
    expect(item.status.value).toBe("answered");
    expect(item.upload.value).toBeNull();
    expect(answers().map(({ body }) => String(body.file_id))).toHaveLength(1);
    expect(answers()[0]?.body.file_id).toBeTruthy();
  });

  it("can be taken back on its way, and ends where the prompt does", async () => {
    const item = await ask({ file: {} });
    const { prompts: actions } = current(page.chat);
    actions.answerWithFile(item, file());
    actions.cancelUpload(item);
    await settle(10_000);
    expect([item.upload.value, item.status.value, answers().length]).toEqual([null, "open", 0]);
    actions.answerWithFile(item, file());
    session.endPrompt(item.promptId, { status: "PROMPT_STATUS_EXPIRED" });
    await settle(10_000);
    expect([item.upload.value, item.status.value, answers().length]).toEqual([null, "expired", 0]);
  });

  it("that is refused leaves the way to another file", async () => {
    const item = await ask({ file: { accept: ".pdf" } });
    server.fault = (seen) => (isAnswer(seen) ? { status: 400, detail: "No PDF." } : undefined);
    const { prompts: actions } = current(page.chat);
    actions.answerWithFile(item, file());
    await settle(10_000);
    expect(state(item)).toEqual(["open", null, "No PDF."]);
    server.fault = () => undefined;
    actions.answerWithFile(item, file());
    expect(item.problem.value).toBe("");
    await settle(10_000);
    expect(item.status.value).toBe("answered");
  });
});

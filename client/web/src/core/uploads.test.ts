import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Attachment } from "../wire.ts";
import { MessageEntry } from "./items.ts";
import { FakeBrowser } from "./testing/browser.ts";
import type { FakeSession } from "./testing/log.ts";
import { current, messages, openPage, type Page, reload, settle } from "./testing/page.ts";
import { FakeServer, type Seen, UPLOAD_MS } from "./testing/server.ts";
import type { Upload } from "./uploads.ts";

let server: FakeServer;
let browser: FakeBrowser;
let pages: Page[];
let page: Page;
let session: FakeSession;

const DAY_MS = 24 * 3_600_000;
const isUpload = (seen: Seen) => seen.path === "/v1/files";
const isSend = (seen: Seen) => seen.path.endsWith("/messages");
const uploadsSeen = () => server.seen.filter(isUpload);

function file(name: string, size = 10, type = "text/plain"): File {
  return new File([new Uint8Array(size)], name, { type });
}

function open(hash = ""): Page {
  const made = openPage(browser, server, hash);
  pages.push(made);
  return made;
}

function again(old: Page): Page {
  const made = reload(old, server);
  pages.push(made);
  return made;
}

function kinds(of = page): string[] {
  return of.chat.attachments.value.map(({ state }) => state.value.kind);
}

function names(of = page): string[] {
  return of.chat.attachments.value.map(({ name }) => name);
}

function told(of = page): string[] {
  return of.chat.notices.value.map(({ text }) => text);
}

function problem({ state }: Upload): string {
  return state.value.kind === "failed" ? state.value.problem : "";
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

describe("an upload", () => {
  it("tells how far it is, and what file it became", async () => {
    const upload = page.chat.uploader.add(file("a.txt", 200));
    const seen: string[] = [];
    upload.state.subscribe((state) =>
      seen.push(state.kind === "uploading" ? `${state.kind} ${state.progress}` : state.kind),
    );
    await settle(UPLOAD_MS);
    expect(seen).toEqual(["uploading 0", "uploading 0.5", "done"]);
    expect(upload.state.value).toMatchObject({ file: { name: "a.txt", size: "200" } });
  });

  it("goes with two others at most; the rest waits for its turn", async () => {
    const all = Array.from({ length: 7 }, (_, i) => page.chat.uploader.add(file(`${i}.txt`)));
    expect(
      all.map(({ state }) => state.value.kind).filter((kind) => kind === "queued"),
    ).toHaveLength(4);
    await settle(4 * UPLOAD_MS);
    expect(all.every(({ state }) => state.value.kind === "done")).toBe(true);
    expect(server.mostUploads).toBe(3);
    expect(server.files.size).toBe(7);
  });

  it("is one file where its answer was lost and it was sent again", async () => {
    let lost = 2;
    server.fault = (seen) => (isUpload(seen) && lost-- > 0 ? "answer lost" : undefined);
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(10 * UPLOAD_MS);
    expect(upload.state.value.kind).toBe("done");
    expect(uploadsSeen()).toHaveLength(3);
    expect(new Set(uploadsSeen().map(({ body }) => body.request_id))).toEqual(
      new Set([upload.key]),
    );
    expect(server.files.size).toBe(1);
  });

  it("waits as long as the browser is offline, and goes on when it is back", async () => {
    browser.online = false;
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(10 * 60_000);
    expect(upload.state.value).toMatchObject({ kind: "uploading", waiting: true });
    browser.online = true;
    page.tab.fire("online");
    await settle(UPLOAD_MS);
    expect(upload.state.value.kind).toBe("done");
  });

  it("gives up on a server that does not answer, until the line is back", async () => {
    server.down = true;
    server.cutAll();
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(5 * 60_000);
    expect(problem(upload)).toBe("The server cannot be reached.");
    server.down = false;
    await settle(60_000);
    expect(upload.state.value.kind).toBe("done");
  });

  it("is tried again under the same request id when the person wants it", async () => {
    server.fault = (seen) =>
      isUpload(seen) ? { status: 500, detail: "The disk is full." } : undefined;
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(UPLOAD_MS);
    expect(upload.state.value).toMatchObject({ problem: "The disk is full.", retryable: true });
    server.fault = () => undefined;
    page.chat.uploader.retry(upload);
    await settle(UPLOAD_MS);
    expect(upload.state.value.kind).toBe("done");
    expect(new Set(uploadsSeen().map(({ body }) => body.request_id)).size).toBe(1);
  });

  it("is not sent where it is too large, and says what is possible", () => {
    const large = file("a.bin");
    Object.defineProperty(large, "size", { value: 101 * 1_048_576 });
    const upload = page.chat.uploader.add(large);
    expect(problem(upload)).toBe("The file is too large: 100 MiB are possible.");
    expect(uploadsSeen()).toEqual([]);
  });

  it("says what the sidecar says, and what a proxy means, and is not tried again", async () => {
    const answers = [
      { status: 413, reason: "LIMIT_EXCEEDED", detail: "Too much waits to be used." },
      { status: 413, detail: "" },
    ];
    server.fault = (seen) => (isUpload(seen) ? answers.shift() : undefined);
    const first = page.chat.uploader.add(file("a.txt"));
    await settle(UPLOAD_MS);
    const second = page.chat.uploader.add(file("b.txt"));
    await settle(UPLOAD_MS);
    expect(problem(first)).toBe("Too much waits to be used.");
    expect(problem(second)).toBe("The file is too large: 100 MiB are possible.");
    expect(first.state.value).toMatchObject({ retryable: false });
    page.chat.uploader.retry(first);
    await settle(10 * UPLOAD_MS);
    expect(uploadsSeen()).toHaveLength(2);
  });

  it("waits as long as the sidecar asks it to", async () => {
    const busy = [{ status: 429, reason: "TOO_MANY_WAITING", retryAfter: 9 }];
    server.fault = (seen) => (isUpload(seen) ? busy.shift() : undefined);
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(9_000);
    expect(uploadsSeen()).toHaveLength(1);
    await settle(2 * UPLOAD_MS);
    expect(upload.state.value.kind).toBe("done");
  });

  it("ends where it is cancelled, and makes room for the next", async () => {
    const all = Array.from({ length: 4 }, (_, i) => page.chat.uploader.add(file(`${i}.txt`)));
    await settle(UPLOAD_MS / 4);
    const [first] = all;
    if (first) page.chat.uploader.cancel(first);
    await settle(2 * UPLOAD_MS);
    expect(all.map(({ state }) => state.value.kind)).toEqual(["uploading", "done", "done", "done"]);
    expect(server.files.size).toBe(3);
  });

  it("says where the file is gone that it was to send", async () => {
    server.fault = (seen) => (isUpload(seen) ? "refused" : undefined);
    const gone = file("a.txt");
    gone.slice = () =>
      ({ arrayBuffer: () => Promise.reject(new Error("gone")) }) as unknown as Blob;
    const upload = page.chat.uploader.add(gone);
    await settle(2 * UPLOAD_MS);
    expect(problem(upload)).toBe("The file cannot be read any more.");
  });

  it("ends where nothing moves", async () => {
    vi.spyOn(page.tab, "upload").mockImplementationOnce(
      (_address, _form, _told, signal) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    );
    const upload = page.chat.uploader.add(file("a.txt"));
    await settle(59_000);
    expect(upload.state.value.kind).toBe("uploading");
    await settle(3 * UPLOAD_MS);
    expect(upload.state.value.kind).toBe("done");
  });
});

describe("the files of a draft", () => {
  it("belong to their chat, also while they are uploaded", async () => {
    const other = server.log.open(server.userOf(page.tab));
    page.chat.attach([file("a.txt"), file("b.txt")]);
    page.chat.open(other.id);
    expect(names()).toEqual([]);
    await settle(UPLOAD_MS);
    page.chat.open(session.id);
    expect(names()).toEqual(["a.txt", "b.txt"]);
    expect(kinds()).toEqual(["done", "done"]);
  });

  it("survive a reload where they are uploaded; those that are not are told of", async () => {
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    page.chat.attach([file("b.txt")]);
    await settle(UPLOAD_MS / 4);
    page = again(page);
    await settle();
    expect(names()).toEqual(["a.txt"]);
    expect(kinds()).toEqual(["done"]);
    expect(told()).toEqual([
      "“b.txt” was not uploaded when the page was left. Please attach again.",
    ]);
    page = again(page);
    await settle();
    expect(told()).toEqual([]);
    page.chat.send("look");
    await settle();
    expect(session.items.at(-1)?.what.message?.attachments).toHaveLength(1);
  });

  it("survive a reload of a new chat, in the tab that they are of", async () => {
    page.chat.newChat();
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    const second = open();
    await settle();
    expect(names(second)).toEqual([]);
    page = again(page);
    await settle();
    expect(names()).toEqual(["a.txt"]);
  });

  it("stay with a new chat that is being opened when it is open", async () => {
    server.fault = (seen) =>
      seen.method === "POST" && seen.path === "/v1/sessions" ? "refused" : undefined;
    page.chat.newChat();
    page.chat.send("the first");
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    expect(current(page.chat).id).toBe("");
    server.fault = () => undefined;
    await settle(12_000);
    expect(current(page.chat).id).not.toBe("");
    expect(names()).toEqual(["a.txt"]);
    page = again(page);
    await settle();
    expect(names()).toEqual(["a.txt"]);
  });

  it("are dropped when the sidecar has forgotten them", async () => {
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    page.tab.slept = DAY_MS;
    const values = browser.shared;
    page.tab.fire("pagehide");
    page.tab.crash();
    vi.setSystemTime(Date.now() + DAY_MS);
    page = open(`#/${session.id}`);
    await settle();
    expect(names()).toEqual([]);
    expect([...values.keys()].filter((key) => key.includes(":files:"))).toEqual([]);
  });

  it("are as many as a message may carry, and none is too large", () => {
    page.chat.attach(Array.from({ length: 22 }, (_, i) => file(`${i}.txt`)));
    expect(names()).toHaveLength(20);
    const large = file("a.bin");
    Object.defineProperty(large, "size", { value: 101 * 1_048_576 });
    page.chat.attach([large]);
    expect(told()).toEqual([
      "A message can carry 20 files: 2 were not attached.",
      "“a.bin” was not attached. The file is too large: 100 MiB are possible.",
    ]);
  });

  it("are gone, and so is what was on its way, when one is removed or the chat is", async () => {
    page.chat.attach([file("a.txt"), file("b.txt")]);
    page.chat.detach(page.chat.attachments.value[0]?.key ?? "");
    expect(names()).toEqual(["b.txt"]);
    await page.chat.remove(session.id);
    await settle(2 * UPLOAD_MS);
    expect(server.files.size).toBe(0);
    expect(names()).toEqual([]);
  });

  it("are forgotten by the sidecar where one that is uploaded is removed", async () => {
    page.chat.attach([file("a.txt"), file("b.txt"), file("c.txt")]);
    await settle(UPLOAD_MS);
    const [first = "", second = "", third = ""] = page.chat.attachments.value.map((e) => e.key);
    const deleted = () =>
      server.seen.filter(({ method }) => method === "DELETE").map(({ path }) => path);
    const [a, b] = [...server.files.values()].map((each) => `/v1/files/${each.file_id}`);
    page.chat.detach(first);
    await settle();
    expect(deleted()).toEqual([a]);
    expect([...server.files.values()].map(({ name }) => name)).toEqual(["b.txt", "c.txt"]);
    page.chat.detach(third, true); // It is the answer to a question now.
    await settle();
    expect(deleted()).toEqual([a]);
    server.fault = ({ method }) => (method === "DELETE" ? { status: 404 } : undefined);
    page.chat.detach(second);
    await settle();
    expect(deleted()).toEqual([a, b]);
    expect([names(), told()]).toEqual([[], []]);
  });

  it("have the names that they have", async () => {
    page.chat.attach([file('a "quoted" 100%22.txt')]);
    await settle(UPLOAD_MS);
    expect([...server.files.values()].map(({ name }) => name)).toEqual(['a "quoted" 100%22.txt']);
  });

  it("are kept with the text for a new chat, where theirs is deleted in another tab", async () => {
    const other = open(`#/${session.id}`);
    await settle();
    page.chat.newChat();
    page.chat.setDraft("a thought");
    page.chat.open(session.id);
    await settle();
    page.chat.setDraft("half a sen");
    page.chat.attach([file("a.txt"), file("b.txt")]);
    await settle(UPLOAD_MS);
    page.chat.attach([file("c.txt")]);
    await other.chat.remove(session.id);
    await settle();
    expect(page.chat.current.value).toBeNull();
    expect(page.chat.draft.value).toBe("a thought\n\nhalf a sen");
    expect(names()).toEqual(["a.txt", "b.txt", "c.txt"]);
    expect(told()).toEqual([
      "This chat was deleted. What you were writing is kept as the draft of a new chat.",
    ]);
    expect([names(other), told(other)]).toEqual([[], []]);
    await settle(UPLOAD_MS);
    page = again(page);
    await settle();
    expect([page.chat.draft.value, names()]).toEqual([
      "a thought\n\nhalf a sen",
      ["a.txt", "b.txt", "c.txt"],
    ]);
    page.chat.send(page.chat.draft.value);
    await settle();
    const [sent] = messages(page.chat);
    expect(sent?.attachments.value).toHaveLength(3);
  });

  it("are kept, too, where the deletion is found out when the line is back", async () => {
    page.chat.setDraft("half a sen");
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    server.down = true;
    server.cutAll();
    server.log.remove(session);
    server.down = false;
    await settle(60_000);
    expect(page.chat.current.value).toBeNull();
    expect([page.chat.draft.value, names()]).toEqual(["half a sen", ["a.txt"]]);
  });

  it("go with a chat that is deleted here, and so does the text", async () => {
    page.chat.setDraft("half a sen");
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    await page.chat.remove(session.id);
    await settle();
    expect([page.chat.draft.value, names(), told()]).toEqual(["", [], []]);
  });

  it("stay where a text is sent that is not the draft", async () => {
    page.chat.setDraft("half a sen");
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    page.chat.send("A suggestion", true);
    await settle();
    expect(page.chat.draft.value).toBe("half a sen");
    expect(names()).toEqual(["a.txt"]);
    expect(session.items.at(-1)?.what.message).toMatchObject({ text: "A suggestion" });
    expect(session.items.at(-1)?.what.message?.attachments ?? []).toEqual([]);
  });
});

describe("a message with files", () => {
  const sent = (): Attachment[][] =>
    session.items.map(({ what }) => [...(what.message?.attachments ?? [])]);

  it("is not sent before they are uploaded", async () => {
    page.chat.attach([file("a.txt")]);
    page.chat.send("look");
    expect(messages(page.chat)).toEqual([]);
    await settle(UPLOAD_MS);
    page.chat.send("look");
    await settle();
    expect(messages(page.chat).map(({ text }) => text.value)).toEqual(["look"]);
    expect(names()).toEqual([]);
  });

  it("needs no text, opens a chat under their name, and shows them from the beginning", async () => {
    page.chat.newChat();
    page.chat.attach([file("holiday.png", 10, "image/png")]);
    await settle(UPLOAD_MS);
    page.chat.send("  ");
    const [item] = messages(page.chat);
    expect(item?.delivery.value).toBe("sending");
    const [before] = item?.attachments.value ?? [];
    expect(before).toMatchObject({ name: "holiday.png", content_type: "image/png" });
    await settle();
    expect(messages(page.chat)).toEqual([item]);
    expect(item?.delivery.value).toBe("sent");
    // The very same: a picture that is shown is not loaded again.
    expect(item?.attachments.value[0]).toBe(before);
    const opening = server.seen.find((seen) => seen.path === "/v1/sessions" && seen.body.title);
    expect(opening?.body.title).toBe("holiday.png");
    expect(server.seen.find(isSend)?.body).toMatchObject({
      text: "",
      attachments: [before?.file_id],
    });
  });

  it("is sent exactly once through cuts and a reload", async () => {
    page.chat.attach([file("a.txt"), file("b.txt")]);
    await settle(UPLOAD_MS);
    server.fault = (seen) => (isSend(seen) ? "answer lost" : undefined);
    page.chat.send("look");
    await settle(1_000);
    page = again(page);
    await settle(1_000);
    expect(messages(page.chat)[0]?.attachments.value).toHaveLength(2);
    server.fault = () => undefined;
    await settle(12_000);
    expect(sent()).toHaveLength(1);
    expect(sent()[0]?.map(({ name }) => name)).toEqual(["a.txt", "b.txt"]);
    expect(messages(page.chat)).toHaveLength(1);
  });

  it("keeps the addresses of its files for a day, and then takes new ones", () => {
    const url = (seconds: number) => `/files/fil_1/a?expires=${seconds}&signature=s`;
    const at = (seconds: number) => ({
      attachments: [{ file_id: "fil_1", url: url(seconds) }],
    });
    const item = new MessageEntry("key", "user");
    item.complete(at(1_000_000));
    item.complete(at(1_080_000));
    expect(item.attachments.value[0]?.url).toBe(url(1_000_000));
    item.complete(at(1_090_000));
    expect(item.attachments.value[0]?.url).toBe(url(1_090_000));
  });

  it("is told apart from one of the same words with other files", async () => {
    server.fault = (seen) => (isSend(seen) ? "answer late" : undefined);
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    page.chat.send("look");
    page.chat.send("look");
    await settle();
    const shown = messages(page.chat).map((each) => [
      each.attachments.value.length,
      each.delivery.value,
    ]);
    expect(shown).toEqual([
      [1, "sent"],
      [0, "sending"],
    ]);
    server.fault = () => undefined;
    server.release();
    await settle();
    expect(sent().map((each) => each.length)).toEqual([1, 0]);
  });

  it("is not taken for one of the same words without files", async () => {
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    server.fault = (seen) => (isSend(seen) ? "refused" : undefined);
    page.chat.send("look");
    await settle();
    session.say("look");
    await settle();
    const shown = messages(page.chat).map((each) => [
      each.attachments.value.length,
      each.delivery.value,
    ]);
    expect(shown).toEqual([
      [0, "sent"],
      [1, "sending"],
    ]);
  });

  it("comes back with its files to be edited", async () => {
    server.fault = (seen) => (isSend(seen) ? { status: 400, detail: "No." } : undefined);
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    page.chat.send("look");
    await settle();
    const [item] = messages(page.chat);
    expect(current(page.chat).discard(item?.key ?? "")).toBe("look");
    expect(names()).toEqual(["a.txt"]);
    expect(kinds()).toEqual(["done"]);
    server.fault = () => undefined;
    page.chat.send("look here");
    await settle();
    expect(sent().map((each) => each.length)).toEqual([1]);
  });

  it("keeps its files as the draft of a new chat where its own is gone", async () => {
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    server.fault = (seen) => (isSend(seen) ? { status: 404, reason: "NOT_FOUND" } : undefined);
    page.chat.send("look");
    await settle();
    expect(page.chat.current.value).toBeNull();
    expect(page.chat.draft.value).toBe("look");
    expect(names()).toEqual(["a.txt"]);
  });

  it("says which of its files is gone, and comes back with the others", async () => {
    page.chat.attach([file("a.txt"), file("b.txt")]);
    await settle(UPLOAD_MS);
    const [, second] = [...server.files.values()];
    const metadata = { file_id: second?.file_id ?? "" };
    server.fault = (seen) =>
      isSend(seen) ? { status: 404, reason: "NOT_FOUND", metadata } : undefined;
    page.chat.send("look");
    await settle();
    expect(page.chat.current.value?.id).toBe(session.id);
    const [item] = messages(page.chat);
    expect(item?.problem.value).toContain("“b.txt” was not used for too long");
    current(page.chat).discard(item?.key ?? "");
    expect(kinds()).toEqual(["done", "failed"]);
  });

  it("is found in the log by its files too, when its request id may be forgotten", async () => {
    page.chat.attach([file("a.txt")]);
    await settle(UPLOAD_MS);
    server.fault = (seen) => (isSend(seen) ? "answer lost" : undefined);
    page.chat.send("look");
    await settle(1_000);
    page.tab.slept = DAY_MS;
    session.say("look");
    server.forgetRequests();
    server.fault = () => undefined;
    await settle(12_000);
    expect(sent().map((each) => each.length)).toEqual([1, 0]);
    expect(messages(page.chat).map(({ delivery }) => delivery.value)).toEqual(["sent", "sent"]);
  });
});

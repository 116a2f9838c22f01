/** The HTTP routes over the log, for tests, with faults to order. */

import type { FollowFrame, Prompt, File as StoredFile, TimelineItem } from "../../wire.ts";
import type { Tab } from "./browser.ts";
import { FakeLog, type FakeSession } from "./log.ts";

interface Follower {
  readonly tab: Tab;
  readonly user: string;
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  open: boolean;
}

/** A request that came. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly body: Record<string, unknown>;
}

/** What is done to a request instead of answering it. */
export type Fault =
  /** It does not arrive. */
  | "refused"
  /** It is done, its answer is lost. */
  | "answer lost"
  /** It is done, its answer comes when `release` is called. */
  | "answer late"
  | {
      status: number;
      reason?: string;
      detail?: string;
      retryAfter?: number;
      metadata?: Record<string, string>;
    };

/** How long an upload takes. */
export const UPLOAD_MS = 1_000;

/** The server. */
export class FakeServer {
  readonly log = new FakeLog();
  readonly followers = new Set<Follower>();
  readonly seen: Seen[] = [];
  /** Asked for every request; undefined: none. */
  fault: (seen: Seen) => Fault | undefined = () => undefined;
  /** How the bytes of a frame are cut. */
  cut: (bytes: Uint8Array) => Uint8Array[] = (bytes) => [bytes];
  down = false;
  /** Where the last follower began. */
  after = -1;
  signIn = ["guest"];
  nextTab = 100;
  /** Files by the request that uploaded them. */
  readonly files = new Map<string, StoredFile>();
  /** Actions that no process of the app handles. */
  readonly unhandled = new Set<string>();
  uploading = 0;
  /** The most uploads that were open at once. */
  mostUploads = 0;
  /** The most streams that were open at once, per tab. */
  mostStreams = 0;
  readonly #users = new Map<string, string>();
  readonly #done = new Map<string, { status: number; body: unknown; asked: string }>();
  readonly #late: (() => void)[] = [];
  #streamId = 0;

  constructor() {
    this.log.onFrame = (user, frame) => {
      for (const each of this.followers) {
        if (each.user === user) {
          this.#write(each, frame);
        }
      }
    };
  }

  /** The person of a tab's browser. */
  userOf(tab: Tab): string {
    return this.#users.get(tab.browser.cookie) ?? "";
  }

  async fetch(tab: Tab, address: string, init: RequestInit): Promise<Response> {
    const url = new URL(address, "http://localhost");
    const path = url.pathname.replace(/^\/apps\/demo/, "");
    const body = init.body ? (JSON.parse(String(init.body)) as Record<string, unknown>) : {};
    const seen: Seen = { method: init.method ?? "GET", path, body };
    this.seen.push(seen);
    const { signal } = init;
    await Promise.resolve();
    signal?.throwIfAborted();
    const fault = this.down || !tab.browser.online ? "refused" : this.fault(seen);
    if (fault === "refused") {
      throw new TypeError("Failed to fetch");
    }
    if (typeof fault === "object") {
      const { status, reason = "", detail, retryAfter, metadata } = fault;
      return refuse(status, reason, detail, retryAfter, metadata);
    }
    const response =
      path === "/v1/events"
        ? this.#follow(tab, Number(url.searchParams.get("after")), signal ?? undefined)
        : this.#answer(tab, seen, url.searchParams);
    if (fault === "answer lost") {
      throw new TypeError("Failed to fetch");
    }
    if (fault === "answer late") {
      await new Promise<void>((resolve) => this.#late.push(resolve));
    }
    signal?.throwIfAborted();
    if (tab.dead) {
      return new Promise(() => undefined);
    }
    return response;
  }

  /** Takes a file; half of it has gone before a fault shows. */
  async upload(
    tab: Tab,
    address: string,
    form: FormData,
    told: (sent: number) => void,
    signal: AbortSignal,
  ): Promise<Response> {
    const url = new URL(address, "http://localhost");
    const requestId = url.searchParams.get("request_id") ?? "";
    const part = form.get("file") as File;
    const seen = { method: "POST", path: "/v1/files", body: { request_id: requestId } };
    this.seen.push(seen);
    this.uploading += 1;
    this.mostUploads = Math.max(this.mostUploads, this.uploading);
    try {
      await new Promise((resolve) => tab.setTimeout(() => resolve(undefined), UPLOAD_MS / 2));
      signal.throwIfAborted();
      const fault = this.down || !tab.browser.online ? "refused" : this.fault(seen);
      if (fault === "refused") {
        throw new TypeError("the line was cut");
      }
      if (typeof fault === "object") {
        return refuse(fault.status, fault.reason ?? "", fault.detail, fault.retryAfter);
      }
      told(part.size / 2);
      await new Promise((resolve) => tab.setTimeout(() => resolve(undefined), UPLOAD_MS / 2));
      signal.throwIfAborted();
      const file = this.files.get(requestId) ?? this.#keepFile(requestId, part, nameIn(form, part));
      if (fault === "answer lost") {
        throw new TypeError("the line was cut");
      }
      return answer(201, { file });
    } finally {
      this.uploading -= 1;
    }
  }

  #keepFile(requestId: string, part: File, name: string): StoredFile {
    const id = this.log.id("fil");
    const file: StoredFile = {
      file_id: id,
      name,
      content_type: part.type,
      size: String(part.size),
      url: `http://elsewhere/files/${id}/${name}?expires=9999999999&signature=s`,
    };
    this.files.set(requestId, file);
    return file;
  }

  /** Lets the answers go that were late. */
  release(): void {
    for (const resolve of this.#late.splice(0)) {
      resolve();
    }
  }

  /** Cuts all streams, as a proxy does. */
  cutAll(): void {
    for (const each of [...this.followers]) {
      this.#drop(each, new TypeError("network error"));
    }
  }

  hangUp(tab: Tab): void {
    for (const each of [...this.followers]) {
      if (each.tab === tab) {
        this.#drop(each, new TypeError("gone"));
      }
    }
  }

  /** Ends all streams with an error that is told. */
  endAll(status: number, reason: string): void {
    for (const each of [...this.followers]) {
      const problem = JSON.stringify({ status, reason, detail: "The end." });
      this.#bytes(each, `event: error\ndata: ${problem}\n\n`);
      each.open = false;
      this.followers.delete(each);
      each.controller.close();
    }
  }

  beat(): void {
    for (const each of this.followers) {
      this.#bytes(each, ": beat\n\n");
    }
  }

  /** Sends bytes as they are. */
  raw(text: string): void {
    for (const each of this.followers) {
      this.#bytes(each, text);
    }
  }

  #drop(follower: Follower, error: Error): void {
    if (follower.open) {
      follower.open = false;
      this.followers.delete(follower);
      follower.controller.error(error);
    }
  }

  #write(follower: Follower, frame: FollowFrame): void {
    const id = frame.event ? `id: ${frame.event.position}\n` : "";
    this.#bytes(follower, `${id}data: ${JSON.stringify(frame)}\n\n`);
  }

  #bytes(follower: Follower, text: string): void {
    for (const part of this.cut(new TextEncoder().encode(text))) {
      if (follower.open) {
        follower.controller.enqueue(part);
      }
    }
  }

  #follow(tab: Tab, after: number, signal: AbortSignal | undefined): Response {
    this.after = after;
    const user = this.userOf(tab);
    if (user === "") {
      return refuse(401, "UNAUTHENTICATED");
    }
    if (after > this.log.position) {
      return refuse(416, "PLACE_UNAVAILABLE");
    }
    let follower: Follower | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#streamId += 1;
        follower = { tab, user, controller, open: true };
        this.followers.add(follower);
        const here = [...this.followers].filter((each) => each.tab === tab);
        this.mostStreams = Math.max(this.mostStreams, here.length);
        this.#bytes(follower, ": hello\n\n");
        for (const frame of this.log.replay(user, after)) {
          this.#write(follower, frame);
        }
      },
      cancel: () => {
        if (follower) {
          follower.open = false;
          this.followers.delete(follower);
        }
      },
    });
    signal?.addEventListener("abort", () => {
      if (follower) {
        this.#drop(follower, new DOMException("aborted", "AbortError"));
      }
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  /** A day has passed: what was done under which request id is remembered no more. */
  forgetRequests(): void {
    this.#done.clear();
  }

  /** How many guests were ever signed in. */
  get guests(): number {
    return this.#users.size;
  }

  #answer(tab: Tab, seen: Seen, query: URLSearchParams): Response {
    const { method, path, body } = seen;
    if (path === "/v1/config") {
      return answer(200, { app: "demo", sign_in: this.signIn, limits: { text_bytes: 4096 } });
    }
    const welcome = method === "POST" && path === "/v1/sessions" && this.signIn.includes("guest");
    const there = this.userOf(tab) !== "";
    if (!there && (path === "/auth/guest" || welcome)) {
      tab.browser.cookie = this.log.id("cookie");
      this.#users.set(tab.browser.cookie, this.log.id("user"));
    }
    if (path === "/auth/guest") {
      return answer(there ? 200 : 201, { user: { user_id: this.userOf(tab) }, method: "guest" });
    }
    const user = this.userOf(tab);
    if (user === "") {
      return refuse(401, "UNAUTHENTICATED");
    }
    if (path === "/auth/user") {
      return answer(200, { user: { user_id: user }, method: "guest" });
    }
    const requestId = String(body.request_id ?? query.get("request_id") ?? "");
    const key = `${user} ${method} ${path.split("/").at(-1)} ${requestId}`;
    const done = requestId ? this.#done.get(key) : undefined;
    const asked = JSON.stringify(body);
    if (done) {
      return done.asked === asked
        ? answer(done.status, done.body)
        : refuse(409, "REQUEST_ID_REUSED");
    }
    const made = this.#do(user, seen, query);
    if (requestId && made.status < 300) {
      this.#done.set(key, { ...made, asked });
    }
    return made.status < 300
      ? answer(made.status, made.body)
      : refuse(made.status, String(made.body));
  }

  #do(user: string, seen: Seen, query: URLSearchParams): { status: number; body: unknown } {
    const { method, body } = seen;
    const [, , collection, id = "", what = ""] = seen.path.split("/");
    if (collection === "sessions" && id === "") {
      return method === "POST"
        ? { status: 201, body: { session: this.log.open(user).session() } }
        : { status: 200, body: this.#list(user, query) };
    }
    if (collection === "prompts") {
      return this.#answerPrompt(user, id, body);
    }
    if (collection === "files" && method === "DELETE") {
      const found = [...this.files].find(([, file]) => file.file_id === id);
      return found && this.files.delete(found[0])
        ? { status: 204, body: null }
        : { status: 404, body: "NOT_FOUND" };
    }
    const session = this.log.sessions.get(id);
    if (session === undefined || session.user !== user) {
      return { status: 404, body: "NOT_FOUND" };
    }
    return this.#inSession(session, `${method} ${what}`, body, query);
  }

  #answerPrompt(user: string, id: string, body: Record<string, unknown>) {
    const session = this.log.of(user).find((each) => each.prompt(id));
    const prompt = session?.prompt(id);
    if (session === undefined || prompt === undefined) {
      return { status: 404, body: "NOT_FOUND" };
    }
    const accepted = session.endPrompt(id, answered(prompt, body));
    return { status: 200, body: { prompt: session.prompt(id), ...(accepted ? { accepted } : {}) } };
  }

  #inSession(
    session: FakeSession,
    what: string,
    body: Record<string, unknown>,
    query: URLSearchParams,
  ): { status: number; body: unknown } {
    if (what === "GET ") {
      const size = Number(query.get("page_size") ?? 50);
      return { status: 200, body: session.page(size, query.get("page_token") ?? "") };
    }
    if (what === "PATCH ") {
      session.rename(String(body.title));
      return { status: 200, body: { session: session.session() } };
    }
    if (what === "DELETE ") {
      this.log.remove(session);
      return { status: 204, body: null };
    }
    if (what === "POST messages") {
      const ids = (body.attachments ?? []) as string[];
      const files = [...this.files.values()].filter(({ file_id = "" }) => ids.includes(file_id));
      const { offset, work, messageId } = session.say(String(body.text), files);
      const sender = "SENDER_USER";
      const message = { message_id: messageId, sender, text: body.text, attachments: files };
      return {
        status: 202,
        body: { message, offset: String(offset), invocation_id: work.id },
      };
    }
    if (what === "POST actions") {
      const { offset, work } = session.click(String(body.name), String(body.block_id));
      if (this.unhandled.has(String(body.name))) {
        session.end(work, "INVOCATION_STATUS_UNHANDLED", "NO_HANDLER");
      }
      return { status: 202, body: { offset: String(offset), invocation_id: work.id } };
    }
    if (what === "POST stop") {
      const work = session.work.get(String(body.invocation_id));
      if (work) {
        session.end(work, "INVOCATION_STATUS_STOPPED", "STOPPED");
      }
      return { status: 200, body: { status: "INVOCATION_STATUS_STOPPED" } };
    }
    return { status: 404, body: "NOT_FOUND" };
  }

  #list(user: string, query: URLSearchParams) {
    const size = Number(query.get("page_size") ?? 50);
    const wanted = (query.get("query") ?? "").toLowerCase();
    const after = Number(query.get("page_token") ?? Number.POSITIVE_INFINITY);
    const found = this.log
      .of(user)
      .filter((each) => each.title.toLowerCase().includes(wanted) && each.activity < after);
    const page = found.slice(0, size);
    const last = page.at(-1);
    return {
      sessions: page.map((each) => each.session()),
      ...(found.length > size && last ? { next_page_token: String(last.activity) } : {}),
      position: String(this.log.position),
    };
  }
}

/** What a timeline should show: the log's own fold, with the text of open streams. */
export function expected(session: FakeSession): unknown[] {
  return (session.page(1_000_000, "").items ?? []).map((item: TimelineItem) => {
    if (item.message) {
      const { sender, text, interrupted } = item.message;
      return [sender === "SENDER_USER" ? "user" : "app", text, interrupted === true, false];
    }
    if (item.stream) {
      return ["app", session.streams.get(item.stream.stream_id ?? "")?.text, false, true];
    }
    if (item.block) {
      return ["block", item.block.block_id, item.block.payload];
    }
    if (item.prompt) {
      return ["prompt", item.prompt.prompt_id, (item.prompt.status ?? "").slice(14).toLowerCase()];
    }
    return ["ended", item.ended?.reason];
  });
}

/** A prompt as an answer ends it; zeros are left out, as JSON of protos does. */
function answered(prompt: Prompt, body: Record<string, unknown>): Prompt {
  if (body.dismissed) {
    return { status: "PROMPT_STATUS_DISMISSED" };
  }
  const { file, approval, choice } = prompt;
  const option = Number(body.option);
  return {
    status: "PROMPT_STATUS_ANSWERED",
    ...(file ? { file: { ...file, answer: { file_id: String(body.file_id), name: "a" } } } : {}),
    ...(approval ? { approval: { ...approval, answer: body.approved === true } } : {}),
    ...(choice ? { choice: { ...choice, ...(option > 0 ? { answer: option } : {}) } } : {}),
  };
}

function answer(status: number, body: unknown): Response {
  return new Response(status === 204 ? null : JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/json" },
  });
}

function refuse(
  status: number,
  reason: string,
  detail = "No.",
  retryAfter = 0,
  metadata = {},
): Response {
  return new Response(JSON.stringify({ status, reason, detail, metadata }), {
    status,
    headers: {
      "Content-Type": "application/problem+json",
      ...(retryAfter ? { "Retry-After": String(retryAfter) } : {}),
    },
  });
}

/** A field before the file says its name; in that of the part a browser writes a quotation mark so. */
function nameIn(form: FormData, part: File): string {
  const [first] = form.keys();
  return first === "name" ? String(form.get("name")) : part.name.replaceAll('"', "%22");
}

/** A session that is on screen, or was a moment ago: its timeline, kept up by events. */

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Event, Message, SendMessageResponse } from "../wire.ts";
import { type Api, ApiError } from "./api.ts";
import { Clicks } from "./clicks.ts";
import { report } from "./defect.ts";
import type { Env } from "./env.ts";
import { int, MessageEntry } from "./items.ts";
import type { OpenSession, SessionEntry, StatusLine, TimelineEntry, WorkEnd } from "./model.ts";
import type { Outbox } from "./outbox.ts";
import type { OutboxEntry } from "./outboxstore.ts";
import type { Passing } from "./passing.ts";
import type { Prompts } from "./prompts.ts";
import type { SessionList } from "./sessionlist.ts";
import { SessionPrompts } from "./sessionprompts.ts";
import { isTask } from "./tasks.ts";
import { Timeline } from "./timeline.ts";
import type { Uploader } from "./uploads.ts";
import { delay } from "./waiting.ts";
import { isAlike } from "./whethersent.ts";

const PAGE = 50;
/** Events that wait for the page they follow. More of them, and the page is fetched anew. */
const MAX_BUFFERED = 2_000;

/** What a session on screen works with. */
export interface Surroundings {
  readonly env: Env;
  readonly api: Api;
  readonly passing: Passing;
  readonly list: SessionList;
  readonly outbox: Outbox;
  readonly prompts: Prompts;
  readonly uploader: Uploader;
  /** Tells the person of something. */
  notice(text: string): void;
  /** A message was taken back: its files are the draft's. */
  returned(session: SessionView, entry: OutboxEntry): void;
  /** Nobody is signed in: returns when somebody is. */
  signIn(): Promise<void>;
  /** There is no such session any more, for this person. */
  gone(session: SessionView): void;
}

/** Where an own message stands: its item, and the message in the log that it was taken for. */
interface Own {
  readonly entry: OutboxEntry;
  readonly item: MessageEntry;
  messageId: string;
}

/** One session. */
export class SessionView implements OpenSession {
  readonly key: string;
  readonly entry: ReadonlySignal<SessionEntry>;
  readonly loading: Signal<boolean>;
  readonly loadingOlder = signal(false);
  readonly statusLines: ReadonlySignal<readonly StatusLine[]>;
  readonly busy: ReadonlySignal<boolean>;
  readonly stopping: ReadonlySignal<boolean>;
  readonly prompts: SessionPrompts;
  /** The request that opens it; empty where it was open. */
  readonly openId: string;
  readonly #with: Surroundings;
  readonly #id: Signal<string>;
  readonly #timeline: Timeline;
  readonly #own = new Map<string, Own>();
  readonly #stopped = signal("");
  readonly #closed = new AbortController();
  readonly #clicks = new Clicks(() => {
    this.#with.notice("This app does not handle that button.");
  });
  #loaded = false;
  #fetching = false;
  #again = false;
  #buffer: Event[] = [];
  #said: readonly StatusLine[] = [];

  /** @param openId - Of a new chat: the request that opens it; `sessionId` is empty then. */
  constructor(surroundings: Surroundings, sessionId: string, openId = "") {
    const { env, list, passing, outbox, prompts } = surroundings;
    this.#with = surroundings;
    this.key = sessionId || openId;
    this.openId = openId;
    this.#id = signal(sessionId);
    this.loading = signal(sessionId !== "");
    this.#timeline = new Timeline({
      attach: (streamId, sink) => passing.attach(streamId, sink),
      detach: (streamId) => passing.detach(streamId),
      claim: (message, offset) => this.#claim(message, offset),
      prompt: (prompt, invocationId, at, known) =>
        prompts.take(prompt, this.#id.peek(), invocationId, at, known),
    });
    const unopened: SessionEntry = {
      id: "",
      title: "",
      state: "open",
      createTime: new Date(env.now()),
      activity: Number.MAX_SAFE_INTEGER,
    };
    this.entry = computed(() => (this.#id.value ? list.entry(this.#id.value).value : unopened));
    const { pending } = this.#timeline;
    this.statusLines = computed(() => this.#lines(passing));
    this.busy = computed(() => this.#stoppable(pending.value) !== "");
    this.stopping = computed(() => pending.value.has(this.#stopped.value));
    this.prompts = new SessionPrompts(surroundings, this.#id);
    for (const entry of outbox.of(this.key)) {
      this.#show(entry);
    }
    this.#timeline.publish();
  }

  get id(): string {
    return this.#id.value;
  }

  get items(): ReadonlySignal<readonly TimelineEntry[]> {
    return this.#timeline.items;
  }

  get hasOlder(): ReadonlySignal<boolean> {
    return this.#timeline.hasOlder;
  }

  over = (invocationId: string): WorkEnd => this.#timeline.over(invocationId);

  /** The new chat is open now. */
  opened(sessionId: string): void {
    this.#id.value = sessionId;
    void this.load();
  }

  /** Fetches the newest page, in place of what is known; events wait meanwhile. */
  async load(): Promise<void> {
    if (this.#fetching) {
      this.#again = true; // What is on its way may be from before.
      return;
    }
    this.#fetching = true;
    for (let attempt = 0; !this.#closed.signal.aborted; attempt++) {
      this.#again = false;
      try {
        if (await this.#fetch()) {
          return;
        }
      } catch (error) {
        if (this.#closed.signal.aborted) {
          break;
        }
        if (!(error instanceof ApiError)) {
          report(error); // A defect.
        } else if (error.status === 404 || error.status === 400) {
          this.#fetching = false;
          this.#with.gone(this);
          return;
        } else if (error.status === 401) {
          await this.#with.signIn();
        }
      }
      const { env, api } = this.#with;
      await api.waiting.wait(delay(attempt, env.random()), this.#closed.signal);
    }
    this.#fetching = false;
  }

  /** Takes an event of this session; `flush` shows it. */
  event(event: Event): void {
    this.#clicks.event(event);
    if (this.#fetching || !this.#loaded) {
      if (this.#buffer.length >= MAX_BUFFERED) {
        this.#buffer = [];
        this.#again = true;
      }
      this.#buffer.push(event);
    } else if (this.#timeline.apply(event) === "gap") {
      this.#buffer = [event];
      void this.load();
    }
  }

  /** Shows what events have changed. */
  flush(): void {
    this.#timeline.publish();
  }

  /** Shows a message that is to be sent. */
  sending(entry: OutboxEntry): void {
    this.#show(entry);
    this.flush();
  }

  /** The offset that a message which is typed now will come behind; null: not known. */
  get after(): number | null {
    if (this.#id.peek() === "") {
      return 0;
    }
    const head = Math.max(this.#loaded ? this.#timeline.offset : 0, this.#with.list.head(this.id));
    return head > 0 ? head : null;
  }

  /** The sidecar has a message. */
  sent(entry: OutboxEntry, answer: SendMessageResponse): void {
    const own = this.#own.get(entry.id);
    const { message } = answer;
    if (own === undefined || message === undefined) {
      return;
    }
    this.#own.delete(entry.id);
    batch(() => {
      const offset = int(answer.offset);
      this.#timeline.settle(own.item, message, offset, answer.invocation_id ?? "");
      this.flush();
    });
  }

  /** The sidecar refuses a message. */
  failed(entry: OutboxEntry): void {
    batch(() => {
      let own = this.#own.get(entry.id);
      if (own?.messageId) {
        // What was taken for it was another one of the same words.
        own = this.#show(entry);
      }
      if (own) {
        own.item.delivery.value = "failed";
        own.item.problem.value = entry.problem;
      }
      this.flush();
    });
  }

  resend(key: string): void {
    const own = this.#ownOf(key);
    const entry = own && this.#with.outbox.resend(own.entry.id, this.after);
    if (own === undefined || entry === undefined) {
      return;
    }
    if (entry !== own.entry) {
      this.#own.delete(own.entry.id);
      this.#own.set(entry.id, { entry, item: own.item, messageId: "" });
    }
    batch(() => {
      own.item.delivery.value = "sending";
      own.item.problem.value = "";
      this.#timeline.removeLocal(own.item); // It goes behind those that wait.
      this.#timeline.addLocal(own.item);
      this.flush();
    });
  }

  discard(key: string): string {
    const own = this.#ownOf(key);
    if (own === undefined || !this.#with.outbox.discard(own.entry.id)) {
      return "";
    }
    this.#own.delete(own.entry.id);
    this.#timeline.removeLocal(own.item);
    this.flush();
    this.#with.returned(this, own.entry);
    return own.entry.text;
  }

  async loadOlder(): Promise<void> {
    const { olderToken } = this.#timeline;
    if (olderToken === "" || this.loadingOlder.peek() || this.#fetching) {
      return;
    }
    this.loadingOlder.value = true;
    this.#timeline.beginOlder();
    try {
      const asked = { pageToken: olderToken, pageSize: PAGE };
      const page = await this.#with.api.timeline(this.id, asked, this.#closed.signal);
      // Where the newest page was loaded anew meanwhile, this one follows nothing.
      if (this.#timeline.olderToken === olderToken) {
        batch(() => {
          this.#timeline.prepend(page);
          this.flush();
        });
      }
    } catch (error) {
      if (error instanceof ApiError) {
        this.#with.notice(`Older messages could not be loaded. ${error.sentence}`);
      }
    } finally {
      this.loadingOlder.value = false;
    }
  }

  async stop(): Promise<void> {
    const invocationId = this.#stoppable(this.#timeline.pending.peek());
    if (invocationId === "" || this.#stopped.peek() === invocationId) {
      return;
    }
    this.#stopped.value = invocationId;
    try {
      await this.#with.api.stop(this.id, invocationId);
    } catch (error) {
      this.#stopped.value = "";
      this.#with.notice(`It could not be stopped. ${sentence(error)}`);
    }
  }

  async act(name: string, blockId: string, payload: unknown): Promise<void> {
    try {
      const answer = await this.#with.api.act(this.id, name, blockId, payload);
      const { invocation_id: invocationId = "", offset } = answer;
      this.#timeline.begun(invocationId, "INVOCATION_KIND_ACTION", int(offset));
      this.flush();
      this.#clicks.sent(invocationId);
    } catch (error) {
      this.#with.notice(`That did not work. ${sentence(error)}`);
    }
  }

  /** It is not kept any longer. */
  close(): void {
    this.#closed.abort();
    this.#timeline.close();
    this.#with.passing.release(this.#id.peek());
  }

  /** The status lines of what waits or runs, tasks too; the same list as before where nothing has changed. */
  #lines(passing: Passing): readonly StatusLine[] {
    const id = this.#id.value;
    const pending = this.#timeline.pending.value;
    const all = id === "" ? [] : passing.linesOf(id).value;
    // A task's line goes with its end, which may have been read by now.
    const lines = all.filter(
      ({ invocationId: by }) => pending.has(by) || (isTask(by) && this.#timeline.over(by) === ""),
    );
    const same = lines.length === this.#said.length && lines.every((l, i) => l === this.#said[i]);
    this.#said = same ? this.#said : lines;
    return this.#said;
  }

  /** Fetches a page and applies what has come meanwhile; false: again. */
  async #fetch(): Promise<boolean> {
    const page = await this.#with.api.timeline(this.id, { pageSize: PAGE }, this.#closed.signal);
    return batch(() => {
      this.#with.list.merge(page.session ?? {});
      this.#timeline.load(page);
      this.#loaded = true;
      this.loading.value = false;
      const events = this.#buffer;
      this.#buffer = [];
      let whole = !this.#again;
      for (const event of events) {
        if (this.#timeline.apply(event) === "gap") {
          whole = false;
          this.#buffer.push(event);
        }
      }
      this.flush();
      this.#fetching = !whole; // Now, not a moment later: the next event may be here by then.
      return whole;
    });
  }

  #show(entry: OutboxEntry): Own {
    const again = this.#own.has(entry.id) ? `${entry.id}:again` : entry.id;
    const delivery = entry.failed ? "failed" : "sending";
    const item = new MessageEntry(again, "user", entry.text, delivery);
    item.problem.value = entry.problem;
    item.attachments.value = entry.attachments;
    const own = { entry, item, messageId: "" };
    this.#own.set(entry.id, own);
    this.#timeline.addLocal(item);
    return own;
  }

  #ownOf(key: string): Own | undefined {
    return [...this.#own.values()].find((own) => own.item.key === key);
  }

  /**
   * Finds the item of an own message that has come before its answer: the oldest one of the same
   * words that may have reached the sidecar. The answer says later whether it was the right one.
   */
  #claim(message: Message, offset: number): MessageEntry | undefined {
    for (const own of this.#own.values()) {
      const { after, tried, failed } = own.entry;
      const open = own.messageId === "" && tried && !failed;
      if (open && after !== null && offset > after && isAlike(own.entry, message)) {
        own.messageId = message.message_id ?? "";
        return own.item;
      }
    }
    return undefined;
  }

  /** The first that runs or waits and can be stopped; empty: none. */
  #stoppable(pending: ReadonlyMap<string, string>): string {
    for (const [invocationId, kind] of pending) {
      if (kind !== "INVOCATION_KIND_EXIT") {
        return invocationId;
      }
    }
    return "";
  }
}

/** What an error says to a person. */
export function sentence(error: unknown): string {
  return error instanceof ApiError ? error.sentence : "Something went wrong.";
}

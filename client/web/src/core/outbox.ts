/**
 * Sends what was typed, in order per chat, until it is in the log: under the request id that was
 * written down before the first attempt, so that no cut, reload or crash loses or doubles it. Where
 * it is so old that the sidecar may have forgotten that id, the person decides.
 */

import type { Attachment, SendMessageResponse, Session } from "../wire.ts";
import { type Api, ApiError } from "./api.ts";
import type { Env } from "./env.ts";
import { type OutboxEntry, OutboxStore } from "./outboxstore.ts";
import { titleOf } from "./title.ts";
import { delay, Waiting } from "./waiting.ts";
import { findSent, isForgotten } from "./whethersent.ts";

/** Messages that may be on their way at once. */
export const MAX_ENTRIES = 100;

/** Whom the outbox tells. */
export interface OutboxHandler {
  /** Entries of an earlier life of the tab, or of a tab that is gone, are this tab's now. */
  adopted(entries: readonly OutboxEntry[]): void;
  /** The session of a new chat is open. */
  opened(openId: string, session: Session): void;
  /** The message is in the log. */
  sent(entry: OutboxEntry, answer: SendMessageResponse): void;
  /** It cannot succeed by trying again. */
  failed(entry: OutboxEntry, error: ApiError): void;
  /** Nobody is signed in: returns when somebody is. */
  signIn(): Promise<void>;
}

/** The chat that an entry belongs to: its session, or the request that opens it. */
export function laneOf(entry: { sessionId: string; openId: string }): string {
  return entry.sessionId || entry.openId;
}

/** The messages of this tab that are on their way. */
export class Outbox {
  readonly #env: Env;
  readonly #api: Api;
  readonly #handler: OutboxHandler;
  readonly #store: OutboxStore;
  readonly #waiting: Waiting;
  readonly #entries = new Map<string, OutboxEntry>();
  readonly #driven = new Set<string>();
  /** By the request that opens a chat: it is refused with another title than the first. */
  readonly #titles = new Map<string, string>();
  /** Messages in the log that were found to be entries of this tab. */
  readonly #found = new Set<string>();
  readonly #stop = new AbortController();
  #order = 0;
  #started = false;

  constructor(env: Env, app: string, api: Api, handler: OutboxHandler) {
    this.#env = env;
    this.#api = api;
    this.#handler = handler;
    this.#store = new OutboxStore(env, app);
    this.#waiting = new Waiting(env);
  }

  /** Finds what an earlier life of this tab has left. Nothing is sent yet. */
  async load(): Promise<void> {
    await this.#store.begin();
    // What was typed before the tab had its name.
    for (const entry of this.#entries.values()) {
      entry.owner = this.#store.tab;
      this.#store.save(entry);
    }
    this.#store.adopt((entries) => {
      const fresh = entries.filter((entry) => !this.#entries.has(entry.id));
      for (const entry of fresh) {
        this.#entries.set(entry.id, entry);
        if (entry.sessionId === "") {
          this.#titles.set(entry.openId, entry.title);
        }
        this.#order = Math.max(this.#order, entry.order);
      }
      this.#handler.adopted(fresh);
      this.#driveAll();
    });
  }

  /** Begins to send. */
  start(): void {
    this.#started = true;
    this.#driveAll();
  }

  close(): void {
    this.#stop.abort();
    this.#store.end();
    this.#waiting.wake();
  }

  /** Tries again at once what waits for the line. */
  wake(): void {
    this.#waiting.wake();
  }

  /** The entries of a chat, in order. */
  of(lane: string): OutboxEntry[] {
    const found = [...this.#entries.values()].filter((entry) => laneOf(entry) === lane);
    return found.sort((a, b) => a.order - b.order);
  }

  /** The chats that are being opened, oldest first, by the request that opens them. */
  opening(): string[] {
    const found = [...this.#entries.values()].filter((entry) => entry.sessionId === "");
    found.sort((a, b) => a.order - b.order);
    return [...new Set(found.map((entry) => entry.openId))];
  }

  /**
   * Takes a message.
   *
   * @returns null where too many are on their way.
   */
  add(
    chat: { sessionId: string; openId: string; after: number | null },
    text: string,
    attachments: readonly Attachment[] = [],
  ) {
    if (this.#entries.size >= MAX_ENTRIES) {
      return null;
    }
    const { openId } = chat;
    const title = chat.sessionId
      ? ""
      : (this.#titles.get(openId) ?? titleOf(text || (attachments[0]?.name ?? "")));
    if (chat.sessionId === "") {
      this.#titles.set(openId, title); // Kept where the first message is taken back, too.
    }
    const entry: OutboxEntry = {
      id: this.#env.uuid(),
      sessionId: chat.sessionId,
      openId,
      title,
      text,
      attachments,
      order: this.#nextOrder(),
      after: chat.after,
      tried: false,
      triedAt: 0,
      failed: false,
      problem: "",
      lost: "",
      owner: this.#store.tab,
    };
    this.#entries.set(entry.id, entry);
    this.#store.save(entry); // A store that is full costs the promise, not the message.
    this.#drive(laneOf(entry));
    return entry;
  }

  /**
   * Sends a failed message again, behind those that wait.
   *
   * @param after - The offset that it comes behind now; null: not known.
   * @returns What is sent: an entry with another id where the old one means nothing any more.
   */
  resend(id: string, after: number | null): OutboxEntry | undefined {
    let entry = this.#entries.get(id);
    if (entry?.failed) {
      if (isForgotten(entry, this.#env.now())) {
        this.#forget(id);
        entry = { ...entry, id: this.#env.uuid(), after, tried: false, triedAt: 0 };
        this.#entries.set(entry.id, entry);
      }
      entry.failed = false;
      entry.problem = "";
      entry.order = this.#nextOrder();
      this.#store.save(entry);
      this.#drive(laneOf(entry));
    }
    return entry;
  }

  /** Takes a failed message out. */
  discard(id: string): OutboxEntry | undefined {
    const entry = this.#entries.get(id);
    if (!entry?.failed) {
      return undefined;
    }
    this.#forget(id);
    return entry;
  }

  /** Takes all messages of a chat out: it was deleted here. */
  drop(lane: string): void {
    for (const entry of this.of(lane)) {
      this.#forget(entry.id);
    }
  }

  #nextOrder(): number {
    this.#order = Math.max(this.#order + 1, this.#env.now());
    return this.#order;
  }

  #forget(id: string): void {
    this.#entries.delete(id);
    this.#store.remove(id);
  }

  #driveAll(): void {
    for (const lane of new Set([...this.#entries.values()].map(laneOf))) {
      this.#drive(lane);
    }
  }

  #drive(lane: string): void {
    if (!this.#started || this.#driven.has(lane)) {
      return;
    }
    this.#driven.add(lane);
    this.#run(lane).catch((error: unknown) => {
      this.#driven.delete(lane);
      throw error; // A defect: the console shows it, the next message begins anew.
    });
  }

  async #run(lane: string): Promise<void> {
    for (;;) {
      const entry = this.of(lane).find((each) => !each.failed);
      if (entry === undefined || this.#stop.signal.aborted) {
        this.#driven.delete(lane); // In the same breath: what is added next begins anew.
        return;
      }
      if (entry.sessionId === "") {
        await this.#attempt(entry, () => this.#open(entry));
        if (entry.sessionId !== "") {
          this.#driven.delete(lane);
          this.#drive(entry.sessionId);
          return;
        }
      } else {
        await this.#attempt(entry, () => this.#send(entry));
      }
    }
  }

  /** Does something until it succeeds or cannot. */
  async #attempt(entry: OutboxEntry, action: () => Promise<void>): Promise<void> {
    for (let attempt = 0; this.#entries.has(entry.id); attempt++) {
      let least = 0;
      try {
        await action();
        return;
      } catch (error) {
        if (this.#stop.signal.aborted) {
          return;
        }
        if (!(error instanceof ApiError)) {
          throw error;
        }
        if (error.status === 401) {
          await this.#handler.signIn();
        } else if (!error.passing) {
          this.#fail(entry, error);
          return;
        }
        least = error.retryAfterMs;
      }
      await this.#waiting.wait(delay(attempt, this.#env.random(), least), this.#stop.signal);
    }
  }

  async #open(entry: OutboxEntry): Promise<void> {
    const { openId, title } = entry;
    const session = await this.#api.openSession(openId, title, this.#stop.signal);
    for (const each of this.of(openId)) {
      each.sessionId = session.session_id ?? "";
      this.#store.save(each);
    }
    this.#titles.delete(openId);
    this.#handler.opened(openId, session);
  }

  async #send(entry: OutboxEntry): Promise<void> {
    if (isForgotten(entry, this.#env.now())) {
      await this.#lookFor(entry);
      return;
    }
    if (!entry.tried) {
      entry.tried = true;
      entry.triedAt = this.#env.now();
      this.#store.save(entry);
    }
    const { sessionId, text, id } = entry;
    const files = entry.attachments.map(({ file_id = "" }) => file_id);
    const answer = await this.#api.sendMessage(sessionId, text, id, files, this.#stop.signal);
    this.#forget(id);
    this.#handler.sent(entry, answer);
  }

  /** Sent once more it could be in the log twice: it is done with, or the person decides. */
  async #lookFor(entry: OutboxEntry): Promise<void> {
    const answer = await findSent(this.#api, entry, this.#found, this.#stop.signal);
    if (!this.#entries.has(entry.id)) {
      return; // Its chat was deleted meanwhile.
    }
    if (answer === null) {
      const unknown = "It is not known whether this was sent.";
      this.#fail(entry, new ApiError(0, "UNKNOWN", unknown));
      return;
    }
    this.#found.add(answer.message?.message_id ?? "");
    this.#forget(entry.id);
    this.#handler.sent(entry, answer);
  }

  #fail(entry: OutboxEntry, error: ApiError): void {
    entry.failed = true;
    entry.problem = error.sentence;
    entry.lost = "";
    const lost = entry.attachments.find(({ file_id: id }) => id === error.fileId);
    if (lost) {
      entry.lost = error.fileId;
      entry.problem = `“${lost.name}” was not used for too long and is gone. Please attach it again.`;
    }
    this.#store.save(entry);
    this.#handler.failed(entry, error);
  }
}

/**
 * Texts that are being written, by chat; they survive a reload and a crash of the tab. Tabs share the
 * draft of a chat. A chat that is not opened yet is a different one in each tab: its draft is the
 * tab's own, and the shared one is there for the tab that follows one that is gone.
 */

import type { Env, KeyStore, Timer } from "./env.ts";

/** The chat that is not opened yet. */
export const NEW = "new";

const SAVE_MS = 300;
/** Chats whose drafts are kept; the ones written in longest ago go first. */
const MAX_DRAFTS = 50;

/** The drafts of an app. */
export class Drafts {
  readonly #env: Env;
  readonly #prefix: string;
  readonly #unsaved = new Map<string, string>();
  #timer: Timer | undefined;

  constructor(env: Env, app: string) {
    this.#env = env;
    this.#prefix = `capsule:${app}:draft:`;
  }

  get(chat: string): string {
    return this.#unsaved.get(chat) ?? this.#own(chat)?.text ?? this.#shared(chat).text;
  }

  /** Takes a text; it is on disk shortly after. */
  set(chat: string, text: string): void {
    this.#unsaved.set(chat, text);
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => this.flush(), SAVE_MS);
  }

  /** Moves a draft to another chat, behind what is written there. */
  move(from: string, to: string): void {
    this.append(to, this.get(from));
    this.remove(from);
  }

  /** Puts text behind what is written. */
  append(chat: string, text: string): void {
    if (text !== "") {
      const there = this.get(chat);
      this.set(chat, there ? `${there}\n\n${text}` : text);
    }
  }

  remove(chat: string): void {
    this.#unsaved.delete(chat);
    this.#clear(chat);
  }

  /** Writes down what is not yet. */
  flush(): void {
    this.#env.clearTimeout(this.#timer);
    for (const [chat, text] of this.#unsaved) {
      if (text === "") {
        this.#clear(chat);
        this.#unsaved.delete(chat);
        continue;
      }
      const kept = this.#keepOwn(chat, text);
      if (this.#keep(this.#env.shared, chat, text) || kept) {
        this.#unsaved.delete(chat);
      }
    }
    this.#trim();
  }

  #clear(chat: string): void {
    const own = this.#own(chat);
    this.#keepOwn(chat, ""); // Empty, not gone: what another tab writes is not shown instead.
    if (own === null || own.text === this.#shared(chat).text) {
      this.#env.shared.remove(this.#prefix + chat);
    }
  }

  #keepOwn(chat: string, text: string): boolean {
    return chat === NEW && this.#keep(this.#env.tab, chat, text);
  }

  #keep(store: KeyStore, chat: string, text: string): boolean {
    return store.set(this.#prefix + chat, JSON.stringify({ text, time: this.#env.now() }));
  }

  /** What this tab alone has; null: nothing, so that the shared one holds. */
  #own(chat: string): Draft | null {
    const value = chat === NEW ? this.#env.tab.get(this.#prefix + chat) : null;
    return value === null ? null : parse(value);
  }

  #shared(chat: string): Draft {
    return parse(this.#env.shared.get(this.#prefix + chat));
  }

  #trim(): void {
    const keys = this.#env.shared.keys().filter((key) => key.startsWith(this.#prefix));
    if (keys.length <= MAX_DRAFTS) {
      return;
    }
    const oldest = keys.map((key) => ({ key, time: parse(this.#env.shared.get(key)).time }));
    oldest.sort((a, b) => a.time - b.time);
    for (const { key } of oldest.slice(0, keys.length - MAX_DRAFTS)) {
      this.#env.shared.remove(key);
    }
  }
}

interface Draft {
  readonly text: string;
  readonly time: number;
}

function parse(value: string | null): Draft {
  try {
    const { text, time } = JSON.parse(value ?? "{}") as Record<string, unknown>;
    return {
      text: typeof text === "string" ? text : "",
      time: typeof time === "number" ? time : 0,
    };
  } catch {
    return { text: "", time: 0 }; // Written by something else.
  }
}

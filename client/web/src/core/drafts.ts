/** Texts that are being written, by chat; they survive a reload and a crash of the tab. */

import type { Env, Timer } from "./env.ts";

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
    return this.#unsaved.get(chat) ?? this.#read(this.#prefix + chat).text;
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
    this.#env.shared.remove(this.#prefix + chat);
  }

  /** Writes down what is not yet. */
  flush(): void {
    this.#env.clearTimeout(this.#timer);
    for (const [chat, text] of this.#unsaved) {
      const key = this.#prefix + chat;
      if (text === "") {
        this.#env.shared.remove(key);
        this.#unsaved.delete(chat);
        continue;
      }
      const value = JSON.stringify({ text, time: this.#env.now() });
      if (this.#env.shared.set(key, value)) {
        this.#unsaved.delete(chat);
      }
    }
    this.#trim();
  }

  #trim(): void {
    const keys = this.#env.shared.keys().filter((key) => key.startsWith(this.#prefix));
    if (keys.length <= MAX_DRAFTS) {
      return;
    }
    const oldest = keys.map((key) => ({ key, time: this.#read(key).time }));
    oldest.sort((a, b) => a.time - b.time);
    for (const { key } of oldest.slice(0, keys.length - MAX_DRAFTS)) {
      this.#env.shared.remove(key);
    }
  }

  #read(key: string): { text: string; time: number } {
    try {
      const value = JSON.parse(this.#env.shared.get(key) ?? "{}") as Record<string, unknown>;
      const { text, time } = value;
      return {
        text: typeof text === "string" ? text : "",
        time: typeof time === "number" ? time : 0,
      };
    } catch {
      return { text: "", time: 0 }; // Written by something else.
    }
  }
}

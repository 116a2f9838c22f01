/** What the person is told, besides the conversation. */

import { signal } from "@preact/signals";
import type { Notice } from "./model.ts";

const MAX_NOTICES = 5;
/** Letters and marks of what is written from right to left. */
const FROM_THE_RIGHT = /[\u0590-\u08ff\u200f\u202b\u202e\u2067\ufb1d-\ufdff\ufe70-\ufefc]/;

/** A name in a sentence: one from right to left turns round nothing that stands beside it. */
export function quoted(name: string): string {
  return FROM_THE_RIGHT.test(name) ? `“\u2068${name}\u2069”` : `“${name}”`;
}

/** The notices on screen, the newest last. */
export class Notices {
  readonly all = signal<readonly Notice[]>([]);
  #id = 0;

  /** Tells something; what is on screen already is not told twice. */
  tell(text: string, bad = true): void {
    const others = this.all.peek().filter((each) => each.text !== text);
    this.#id += 1;
    this.all.value = [...others, { id: this.#id, text, bad }].slice(-MAX_NOTICES);
  }

  dismiss(id: number): void {
    this.all.value = this.all.peek().filter((each) => each.id !== id);
  }
}

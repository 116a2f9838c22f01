/** What the person is told, besides the conversation. */

import { signal } from "@preact/signals";
import type { Notice } from "./model.ts";

const MAX_NOTICES = 5;

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

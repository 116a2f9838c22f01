/** The clicks of this tab: one that no process of the app handles must not end in silence. */

import type { Event } from "../wire.ts";

/** Clicks that are remembered, and ends of clicks whose answer is still to come. */
const MOST = 50;

/** Follows the clicks of a session from their request to their end. */
export class Clicks {
  readonly #own = new Set<string>();
  /** Clicks of anybody that nobody handled. */
  readonly #unhandled = new Set<string>();
  readonly #tell: () => void;

  /** @param tell - Called when a click of this tab has ended without a handler. */
  constructor(tell: () => void) {
    this.#tell = tell;
  }

  /** A click of this tab is in the log; its end may have been read before. */
  sent(invocationId: string): void {
    keep(this.#own, invocationId);
    this.#look(invocationId);
  }

  event({ invocation_ended: ended, invocation_id: id = "" }: Event): void {
    if (ended?.kind !== "INVOCATION_KIND_ACTION") {
      return;
    }
    if (ended.status === "INVOCATION_STATUS_UNHANDLED") {
      keep(this.#unhandled, id);
      this.#look(id);
    } else {
      this.#own.delete(id);
    }
  }

  #look(id: string): void {
    if (this.#unhandled.has(id) && this.#own.delete(id)) {
      this.#unhandled.delete(id);
      this.#tell();
    }
  }
}

function keep(ids: Set<string>, id: string): void {
  ids.add(id);
  const [oldest = ""] = ids;
  if (ids.size > MOST) {
    ids.delete(oldest);
  }
}

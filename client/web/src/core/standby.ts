/**
 * How many tabs nobody looks at may hold a stream. A browser opens six connections to a host at
 * most (HTTP/1.1), over all its tabs: with a stream in each, a seventh tab would get no answer to
 * anything, and none of the others could send. Where a browser has no locks (on plain http beyond
 * this machine), tabs cannot agree on who goes on: there none does.
 */

import type { Env, Timer } from "./env.ts";

/** Hidden tabs that go on following, of all apps of this address: half of what there is. */
const HIDDEN_STREAMS = 3;
/** A tab that is hidden for less is only looked away from, in milliseconds. */
const AFTER_MS = 20_000;

/** What is held up. */
export interface Pausable {
  pause(): void;
  resume(): void;
}

/** Pauses the line of a hidden tab where enough others follow; resumes it when it is looked at. */
export class Standby {
  readonly #env: Env;
  readonly #line: Pausable;
  readonly #off: () => void;
  #timer: Timer | undefined;
  #turn = 0;
  #release: (() => void) | null = null;

  constructor(env: Env, line: Pausable) {
    this.#env = env;
    this.#line = line;
    this.#off = env.on("visibilitychange", () => this.#look());
    if (env.hidden()) {
      // One of many that a browser restores at once, most likely: nobody has just looked away.
      this.#line.pause();
      void this.#wait();
    }
  }

  close(): void {
    this.#off();
    this.#let();
  }

  #look(): void {
    if (!this.#env.hidden()) {
      this.#let();
      this.#line.resume();
    } else if (this.#timer === undefined && this.#release === null) {
      this.#timer = this.#env.setTimeout(() => void this.#wait(), AFTER_MS);
    }
  }

  /** Gives back what a hidden tab holds. */
  #let(): void {
    this.#turn++;
    this.#env.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#release?.();
    this.#release = null;
  }

  async #wait(): Promise<void> {
    const turn = this.#turn;
    for (let place = 0; place < HIDDEN_STREAMS; place++) {
      const release = await this.#take(`capsule:hidden-stream:${place}`);
      if (turn !== this.#turn) {
        release?.();
        return; // It was looked at meanwhile.
      }
      if (release !== null) {
        this.#release = release;
        this.#line.resume(); // It was held up where it was hidden from the first.
        return;
      }
    }
    this.#line.pause();
  }

  /** Takes a lock that goes with the tab; null where another tab has it, or there are none. */
  #take(name: string): Promise<(() => void) | null> {
    const { locks } = this.#env;
    if (locks === null) {
      return Promise.resolve(null);
    }
    return new Promise((taken) => {
      const held = async (lock: unknown) => {
        if (lock === null) {
          taken(null);
          return;
        }
        await new Promise<void>((release) => taken(release));
      };
      locks.request(name, { ifAvailable: true }, held).catch(() => taken(null));
    });
  }
}

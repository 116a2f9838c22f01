/** Waiting: delays that grow with chance in them, and waits that can be cut short. */

import type { Env, Timer } from "./env.ts";

const LEAST_MS = 250;
const MOST_MS = 10_000;

/**
 * How long to wait before the next attempt.
 *
 * @param attempt - 0 for the first repetition.
 * @param random - From 0 to below 1, so that a thousand tabs do not come back in one instant.
 * @param atLeast - What the server asked for (`Retry-After`), in milliseconds.
 * @returns Milliseconds: 250 at first, up to 10 s.
 */
export function delay(attempt: number, random: number, atLeast = 0): number {
  const most = Math.min(MOST_MS, 2 * LEAST_MS * 2 ** Math.min(attempt, 10));
  return Math.max((most / 2) * (1 + random), atLeast);
}

/** A place to wait in that can be left early: the line is back, so go at once. */
export class Waiting {
  readonly #env: Env;
  readonly #waiters = new Set<() => void>();

  constructor(env: Env) {
    this.#env = env;
  }

  /** Returns after some time, when woken, or when the signal aborts; whichever is first. */
  wait(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const done = () => {
        this.#env.clearTimeout(timer);
        this.#waiters.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      timer = this.#env.setTimeout(done, ms);
      this.#waiters.add(done);
      signal?.addEventListener("abort", done);
      if (signal?.aborted) {
        done();
      }
    });
  }

  /** Ends all waits. */
  wake(): void {
    for (const done of [...this.#waiters]) {
      done();
    }
  }
}

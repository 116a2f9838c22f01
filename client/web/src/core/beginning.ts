/** Beginning: sign in, load the list, follow from its position; and all of it anew when it must be. */

import type { Access } from "./access.ts";
import { type Api, ApiError } from "./api.ts";
import { report } from "./defect.ts";
import type { Env } from "./env.ts";
import type { Link } from "./link.ts";
import type { SessionList } from "./sessionlist.ts";
import { delay, Waiting } from "./waiting.ts";

/** Beginning anew so soon after the last time waits. */
const HURRY_MS = 15_000;

/** What is begun. */
export interface Parts {
  readonly env: Env;
  readonly api: Api;
  readonly access: Access;
  readonly list: SessionList;
  readonly link: Link;
  /** The list is there, the stream is about to begin. */
  loaded(): void;
  /** Everything is there. */
  ready(): void;
}

/** Begins, one time after the other. */
export class Beginning {
  readonly #with: Parts;
  readonly #pause: Waiting;
  readonly #closed = new AbortController();
  #running: Promise<void> | null = null;
  #again = false;
  #last = Number.NEGATIVE_INFINITY;
  #hurry = 0;

  constructor(parts: Parts) {
    this.#with = parts;
    this.#pause = new Waiting(parts.env);
  }

  /** Begins; goes on until it succeeds, or cannot (`Access.state` says why). */
  begin(): Promise<void> {
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      if (this.#again && !this.#closed.signal.aborted) {
        this.#again = false;
        void this.begin();
      }
    });
    return this.#running;
  }

  /** Another person, or another log: everything is loaded anew. */
  anew(): void {
    this.#with.link.stop();
    if (this.#running) {
      this.#again = true;
    } else {
      void this.begin();
    }
  }

  /** The line was refused: follows again when somebody is signed in. */
  async signInAndFollow(): Promise<void> {
    const { access } = this.#with;
    await access.renew();
    if (access.state.peek() === "ready" && this.#running === null) {
      this.anew();
    }
  }

  close(): void {
    this.#closed.abort();
  }

  async #run(): Promise<void> {
    const { env, api, link } = this.#with;
    const { signal } = this.#closed;
    // Whatever makes it begin anew again and again does not do so without a pause.
    this.#hurry = env.now() - this.#last < HURRY_MS ? this.#hurry + 1 : 0;
    if (this.#hurry > 1) {
      await this.#pause.wait(delay(this.#hurry, env.random()), signal);
    }
    this.#last = env.now();
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.#once(signal);
        return;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        let least = 0;
        if (error instanceof ApiError) {
          least = error.retryAfterMs;
        } else {
          report(error); // A defect. Whatever it is of may have passed the next time.
        }
        link.unanswered();
        await api.waiting.wait(delay(attempt, env.random(), least), signal);
      }
    }
  }

  async #once(signal: AbortSignal): Promise<void> {
    const { access, list, link } = this.#with;
    // Whoever was here before is most likely signed in still: all is asked for at once.
    const early = access.returning ? list.load(signal) : Promise.resolve(null);
    const [allowed, position] = await Promise.all([
      access.begin(signal),
      early.catch((error: unknown) => {
        if (error instanceof ApiError && (error.status === 401 || error.status === 404)) {
          return null; // Nobody is signed in, or there is no such app: that is found out beside.
        }
        throw error;
      }),
    ]);
    if (!allowed) {
      return;
    }
    const from = position ?? (await list.load(signal));
    if (!signal.aborted) {
      this.#with.loaded();
      link.start(from);
      access.ready();
      this.#with.ready();
    }
  }
}

/**
 * The line to the sidecar: one stream of events per tab, begun again from the position reached
 * whenever it breaks, falls silent or the machine has slept. There are never two at once, and what
 * a stream says after it was given up is not listened to.
 */

import { type ReadonlySignal, signal } from "@preact/signals";
import type { FollowFrame } from "../wire.ts";
import { ApiError, problemOf } from "./api.ts";
import { Defect, report } from "./defect.ts";
import type { Env, Timer } from "./env.ts";
import type { Connection } from "./model.ts";
import { readSse, type SseEvent } from "./sse.ts";
import { delay } from "./waiting.ts";

/** The sidecar gives a sign of life every 15 s. */
const SILENCE_MS = 35_000;
/** A line that was silent for longer is begun again when somebody looks at the page. */
const DOUBTFUL_MS = 20_000;
/** For the first bytes: a sidecar's answer begins at once. */
const CONNECT_MS = 15_000;
const TICK_MS = 5_000;
/** A tick that comes this late was slept through. */
const SLEPT_MS = 10_000;
/** A line that held so long was a good one: the next attempt comes at once again. */
const STEADY_MS = 3_000;

/** What the line talks to. */
export interface LinkHandler {
  /** Opens the stream; throws ApiError where the answer is none. */
  open(after: number, signal: AbortSignal): Promise<Response>;
  /** A stream begins: what is passing comes anew with its snapshot. */
  begun(): void;
  /** Frames, in order; all that one arrival of bytes has completed. Throws where they do not fit. */
  frames(frames: readonly FollowFrame[]): void;
  /** The snapshot is there, live events follow. */
  live(): void;
  /** The position is unknown to the sidecar: everything is to be loaded anew, then `start`. */
  lost(): void;
  /** Nobody is signed in: sign in, then `start`. */
  signedOut(): void;
}

/** The one stream of a tab. */
export class Link {
  readonly #env: Env;
  readonly #handler: LinkHandler;
  readonly #connection = signal<Connection>("connecting");
  readonly #off: (() => void)[] = [];
  #position = 0;
  #running = false;
  #paused = false;
  #controller: AbortController | null = null;
  #retry: Timer | undefined;
  #watch: Timer | undefined;
  #tick: Timer | undefined;
  #attempt = 0;
  #lastBytes = 0;
  #lastTick = 0;
  #liveSince = 0;
  #cutOff = false;

  constructor(env: Env, handler: LinkHandler) {
    this.#env = env;
    this.#handler = handler;
    const look = () => this.#look();
    const show = () => this.#env.hidden() || this.#look();
    this.#off.push(
      env.on("online", () => this.#back()),
      env.on("offline", () => {
        this.#cutOff = true;
        this.#state();
      }),
      env.on("visibilitychange", show),
      env.on("resume", look),
      env.on("pageshow", (event) => {
        if ((event as PageTransitionEvent).persisted) {
          this.#attempt = 0;
          this.restart(); // It was frozen; its stream is dead, whatever it looks like.
        }
      }),
    );
  }

  get connection(): ReadonlySignal<Connection> {
    return this.#connection;
  }

  /** How far the log has been read. */
  get position(): number {
    return this.#position;
  }

  /** Follows from a position on, in place of whatever was followed before. */
  start(position: number): void {
    this.#position = position;
    this.#running = true;
    this.#attempt = 0;
    this.#lastTick = this.#env.now();
    this.#env.clearTimeout(this.#tick);
    this.#tick = this.#env.setTimeout(() => this.#onTick(), TICK_MS);
    this.#connect();
  }

  /** Ends the stream; `start` begins anew. */
  stop(): void {
    this.#running = false;
    this.#end();
    this.#env.clearTimeout(this.#tick);
    this.#state();
  }

  /** Follows no more until `resume`: others need the browser's connections. */
  pause(): void {
    this.#paused = true;
    this.#end();
    this.#state();
  }

  /** Goes on from the position reached. */
  resume(): void {
    if (this.#paused) {
      this.#paused = false;
      this.#attempt = 0;
      this.restart();
    }
  }

  /** Begins the stream again, at once: something is missing, or the line may be dead. */
  restart(): void {
    if (this.#running) {
      this.#connect();
    }
  }

  /** Begins the stream again after a while: what came did not fit together. */
  retry(atLeast = 0): void {
    if (!this.#running || this.#paused) {
      return;
    }
    this.#end();
    const ms = delay(this.#attempt++, this.#env.random(), atLeast);
    this.#state();
    this.#retry = this.#env.setTimeout(() => this.#connect(), ms);
  }

  /** Ends everything for good. */
  close(): void {
    this.stop();
    for (const off of this.#off) {
      off();
    }
  }

  /** Shows that the sidecar did not answer before there was a line. */
  unanswered(): void {
    if (!this.#running) {
      this.#connection.value = this.#env.online() ? "reconnecting" : "offline";
    }
  }

  #end(): void {
    this.#controller?.abort();
    this.#controller = null;
    this.#liveSince = 0;
    this.#env.clearTimeout(this.#retry);
    this.#env.clearTimeout(this.#watch);
  }

  #connect(): void {
    this.#end();
    if (this.#paused) {
      return;
    }
    const controller = new AbortController();
    this.#controller = controller;
    this.#lastBytes = this.#env.now();
    this.#guard(CONNECT_MS);
    this.#state();
    this.#follow(controller).then(
      () => this.#over(controller, null),
      (error: unknown) => this.#over(controller, error),
    );
  }

  async #follow(controller: AbortController): Promise<void> {
    const response = await this.#handler.open(this.#position, controller.signal);
    if (this.#controller !== controller) {
      await response.body?.cancel();
      return;
    }
    if (response.body === null) {
      return;
    }
    this.#guard(SILENCE_MS);
    own(() => this.#handler.begun());
    await readSse(response.body, (events) => {
      if (this.#controller !== controller) {
        return false; // Given up; another one follows.
      }
      this.#lastBytes = this.#env.now();
      own(() => this.#take(events));
      return this.#controller === controller;
    });
  }

  #take(events: readonly SseEvent[]): void {
    const frames: FollowFrame[] = [];
    let position = this.#position;
    let live = false;
    let failure: ApiError | null = null;
    for (const event of events) {
      if (event.type === "error") {
        failure = problemOf(JSON.parse(event.data) as Record<string, unknown>, 0);
        break;
      }
      if (event.type !== "message") {
        continue; // Of a newer sidecar.
      }
      const frame = JSON.parse(event.data) as FollowFrame;
      const reached = frame.event?.position ?? frame.snapshot?.position ?? 0;
      position = Math.max(position, Number(reached));
      live ||= frame.snapshot?.last === true;
      frames.push(frame);
    }
    if (frames.length > 0) {
      const controller = this.#controller;
      this.#handler.frames(frames);
      if (this.#controller !== controller) {
        return; // They did not fit: it has been begun again from where it was.
      }
      this.#position = position;
    }
    if (live && this.#liveSince === 0) {
      this.#liveSince = this.#env.now();
      this.#state();
      this.#handler.live();
    }
    if (failure !== null) {
      throw failure;
    }
  }

  #over(controller: AbortController, error: unknown): void {
    if (this.#controller !== controller) {
      return; // It was given up before: another one is there already, or none is wanted.
    }
    if (error instanceof Defect) {
      report(error.cause); // It may well come again, however long the line held: slower each time.
    } else if (this.#liveSince > 0 && this.#env.now() - this.#liveSince >= STEADY_MS) {
      this.#attempt = 0;
    } else if (this.#liveSince > 0) {
      this.#attempt = Math.min(this.#attempt, 2);
    }
    const status = error instanceof ApiError ? error.status : 0;
    if (status === 416 || status === 401) {
      this.stop();
      this.#connection.value = "reconnecting";
      if (status === 416) {
        this.#handler.lost();
      } else {
        this.#handler.signedOut();
      }
      return;
    }
    this.retry(error instanceof ApiError ? error.retryAfterMs : 0);
  }

  /** Ends a line that says nothing. Armed once and looked at when due, not for every byte. */
  #guard(ms: number): void {
    this.#env.clearTimeout(this.#watch);
    const check = () => {
      const silent = this.#silence();
      if (silent >= ms) {
        this.#attempt = 0;
        this.#connect();
      } else {
        this.#watch = this.#env.setTimeout(check, ms - silent);
      }
    };
    this.#watch = this.#env.setTimeout(check, ms);
  }

  /** Milliseconds since bytes came. */
  #silence(): number {
    const now = this.#env.now();
    this.#lastBytes = Math.min(this.#lastBytes, now); // The clock was set back.
    return now - this.#lastBytes;
  }

  #onTick(): void {
    const now = this.#env.now();
    const slept = now - this.#lastTick > TICK_MS + SLEPT_MS;
    this.#lastTick = now;
    this.#tick = this.#env.setTimeout(() => this.#onTick(), TICK_MS);
    // A hidden page's timers are late without any sleep; then the beats have gone on coming.
    if (slept) {
      this.#look();
    }
  }

  /** Somebody looks, or the machine woke up: a line in doubt is begun again, a wait is over. */
  #look(): void {
    if (!this.#running) {
      return;
    }
    if (this.#controller === null || this.#silence() > DOUBTFUL_MS) {
      this.#attempt = 0;
      this.#connect();
    }
  }

  /** The network is back: what was open before is of another network. */
  #back(): void {
    const doubtful = this.#cutOff || this.#controller === null || this.#liveSince === 0;
    this.#cutOff = false;
    if (this.#running && doubtful) {
      this.#attempt = 0;
      this.#connect();
    } else {
      this.#look();
    }
  }

  #state(): void {
    const before = this.#connection.peek();
    if (this.#liveSince > 0) {
      this.#connection.value = "live";
    } else if (!this.#env.online()) {
      this.#connection.value = "offline";
    } else if (before !== "connecting" || this.#attempt > 0) {
      this.#connection.value = "reconnecting";
    }
  }
}

/** Runs what the page does with what came: what it throws is no fault of the line. */
function own(run: () => void): void {
  try {
    run();
  } catch (error) {
    throw error instanceof ApiError ? error : new Defect(error);
  }
}

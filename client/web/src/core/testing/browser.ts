/** A browser for tests: tabs that share cookies, storage and locks, and a network that can fail. */

import type { Env, KeyStore, Locks } from "../env.ts";
import type { FakeServer } from "./server.ts";

type Run = (event: globalThis.Event) => void;

class MapStore implements KeyStore {
  readonly values: Map<string, string>;
  full = false;
  readonly #tell: (key: string, newValue: string) => void;

  constructor(values: Map<string, string>, tell: (key: string, newValue: string) => void) {
    this.values = values;
    this.#tell = tell;
  }

  get(key: string): string | null {
    return this.values.get(key) ?? null;
  }

  set(key: string, value: string): boolean {
    if (!this.full && this.values.get(key) !== value) {
      this.values.set(key, value);
      this.#tell(key, value);
    }
    return !this.full;
  }

  remove(key: string): void {
    this.values.delete(key);
  }

  keys(): string[] {
    return [...this.values.keys()];
  }
}

/** Web Locks, as far as the core uses them. */
export class FakeLocks {
  readonly #held = new Map<string, Tab>();
  readonly #queue: { name: string; tab: Tab; grant: () => void }[] = [];

  /** The locks as one tab sees them. */
  of(tab: Tab): Locks {
    return {
      request: async <T>(
        name: string,
        options: { ifAvailable?: boolean; signal?: AbortSignal },
        run: (lock: unknown) => Promise<T>,
      ): Promise<T> => {
        if (this.#held.has(name)) {
          if (options.ifAvailable) {
            return run(null);
          }
          await new Promise<void>((grant, refuse) => {
            this.#queue.push({ name, tab, grant });
            options.signal?.addEventListener("abort", () => refuse(options.signal?.reason));
          });
        } else {
          this.#held.set(name, tab);
        }
        try {
          return await run({ name });
        } finally {
          if (this.#held.get(name) === tab) {
            this.release(name);
          }
        }
      },
    };
  }

  release(name: string): void {
    this.#held.delete(name);
    const at = this.#queue.findIndex((each) => each.name === name);
    if (at >= 0) {
      const [next] = this.#queue.splice(at, 1);
      if (next) {
        this.#held.set(name, next.tab);
        next.grant();
      }
    }
  }

  /** A tab is gone: so are its locks. */
  releaseAll(tab: Tab): void {
    for (let at = this.#queue.length - 1; at >= 0; at--) {
      if (this.#queue[at]?.tab === tab) {
        this.#queue.splice(at, 1);
      }
    }
    for (const [name, holder] of [...this.#held]) {
      if (holder === tab) {
        this.release(name);
      }
    }
  }
}

/** What the tabs of a browser have in common. */
export class FakeBrowser {
  readonly shared = new Map<string, string>();
  readonly locks: FakeLocks | null;
  readonly tabs = new Set<Tab>();
  /** The session cookie. */
  cookie = "";
  online = true;

  constructor(withLocks = true) {
    this.locks = withLocks ? new FakeLocks() : null;
  }

  tab(server: FakeServer, tabStorage = new Map<string, string>(), hash = ""): Tab {
    const tab = new Tab(this, server, tabStorage, hash);
    this.tabs.add(tab);
    return tab;
  }
}

/** One tab: what the core sees of the browser. */
export class Tab implements Env {
  readonly shared: MapStore;
  readonly tab: MapStore;
  readonly locks: Locks | null;
  readonly browser: FakeBrowser;
  readonly history: string[];
  isHidden = false;
  /** A tab that crashed: nothing it began goes on. */
  dead = false;
  /** Milliseconds that the wall clock is ahead of the timers: the machine slept. */
  slept = 0;
  frames = 0;
  readonly #server: FakeServer;
  readonly #listeners = new Map<string, Set<Run>>();
  #uuids = 0;
  readonly #name: number;

  constructor(
    browser: FakeBrowser,
    server: FakeServer,
    tabStorage: Map<string, string>,
    hash: string,
  ) {
    this.browser = browser;
    this.#server = server;
    this.shared = new MapStore(browser.shared, (key, newValue) => {
      for (const other of browser.tabs) {
        if (other !== this) {
          other.fire("storage", { key, newValue });
        }
      }
    });
    this.tab = new MapStore(tabStorage, () => undefined);
    this.locks = browser.locks?.of(this) ?? null;
    this.history = [hash];
    this.#name = server.nextTab++;
  }

  fetch(address: string, init: RequestInit): Promise<Response> {
    if (this.dead) {
      return new Promise(() => undefined);
    }
    return this.#server.fetch(this, address, init);
  }

  upload(
    address: string,
    form: FormData,
    told: (sent: number) => void,
    signal: AbortSignal,
  ): Promise<Response> {
    if (this.dead) {
      return new Promise(() => undefined);
    }
    return this.#server.upload(this, address, form, told, signal);
  }

  now(): number {
    return Date.now() + this.slept;
  }

  random(): number {
    return 0;
  }

  uuid(): string {
    this.#uuids += 1;
    return `00000000-0000-4000-8000-${this.#name}${String(this.#uuids).padStart(10, "0")}`;
  }

  setTimeout(run: () => void, ms: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.dead || run(), ms);
  }

  clearTimeout(timer: ReturnType<typeof setTimeout> | undefined): void {
    clearTimeout(timer);
  }

  nextFrame(run: () => void): void {
    setTimeout(() => {
      this.frames += 1;
      if (!this.dead) {
        run();
      }
    }, 16);
  }

  online(): boolean {
    return this.browser.online;
  }

  hidden(): boolean {
    return this.isHidden;
  }

  /** Another tab comes before this one, or this one before the others. */
  hide(hidden = true): void {
    this.isHidden = hidden;
    this.fire("visibilitychange");
  }

  on(type: string, run: Run): () => void {
    const runs = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, runs.add(run));
    return () => runs.delete(run);
  }

  fire(type: string, fields: Record<string, unknown> = {}): void {
    for (const run of this.#listeners.get(type) ?? []) {
      run(Object.assign(new globalThis.Event(type), fields));
    }
  }

  hash(): string {
    return this.history.at(-1) ?? "";
  }

  setHash(hash: string, replace: boolean): void {
    if (replace) {
      this.history.pop();
    }
    this.history.push(hash);
  }

  /** The back button. */
  back(): void {
    this.history.pop();
    this.fire("popstate");
  }

  /** The process is gone in mid-word: no event tells the page. */
  crash(): void {
    this.dead = true;
    this.browser.tabs.delete(this);
    this.browser.locks?.releaseAll(this);
    this.#server.hangUp(this);
  }
}

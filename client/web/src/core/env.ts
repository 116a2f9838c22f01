/**
 * What the core needs of a browser, in one place: a test puts its own there, and a browser that
 * lacks something (locks and random UUIDs on a plain http address, storage in a private window)
 * still has a page that works.
 */

/** Strings by key. Nothing here throws: a store that is full or forbidden answers false. */
export interface KeyStore {
  get(key: string): string | null;
  /** False where it could not be kept. */
  set(key: string, value: string): boolean;
  remove(key: string): void;
  keys(): string[];
}

/** The part of the Web Locks API that is used. */
export interface Locks {
  request<T>(
    name: string,
    options: { ifAvailable?: boolean; signal?: AbortSignal },
    run: (lock: unknown) => Promise<T>,
  ): Promise<T>;
}

/** A timer's handle. */
export type Timer = ReturnType<typeof setTimeout>;

/** The browser. */
export interface Env {
  fetch(address: string, init: RequestInit): Promise<Response>;
  /**
   * Posts a form and tells how much of it has gone, in bytes, which `fetch` does not. Rejects as
   * `fetch` does.
   */
  upload(
    address: string,
    form: FormData,
    told: (sent: number) => void,
    signal: AbortSignal,
  ): Promise<Response>;
  /** Milliseconds by the wall clock: only this one shows that the machine slept. */
  now(): number;
  /** From 0 to below 1. */
  random(): number;
  uuid(): string;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer | undefined): void;
  /** Runs once before the next paint, or soon where nothing is painted. */
  nextFrame(run: () => void): void;
  /** Shared by the app's tabs. */
  readonly shared: KeyStore;
  /** This tab's own; survives a reload. */
  readonly tab: KeyStore;
  readonly locks: Locks | null;
  online(): boolean;
  hidden(): boolean;
  /** Listens on the window (or the document, for its own events); returns how to stop. */
  on(type: string, run: (event: globalThis.Event) => void): () => void;
  hash(): string;
  /** Shows a hash in the location; `replace` makes no entry in the history. */
  setHash(hash: string, replace: boolean): void;
}

/** What a hidden page waits for a frame, in milliseconds: there is no next paint. */
const HIDDEN_FRAME_MS = 200;
const DOCUMENT_EVENTS = new Set(["visibilitychange", "resume", "freeze"]);

function keyStore(open: () => Storage): KeyStore {
  let storage: Storage | null = null;
  try {
    storage = open();
  } catch {
    // Forbidden by the browser's settings: the page works without.
  }
  return {
    get: (key) => storage?.getItem(key) ?? null,
    set: (key, value) => {
      try {
        storage?.setItem(key, value);
        return storage !== null;
      } catch {
        return false; // Full.
      }
    },
    remove: (key) => storage?.removeItem(key),
    keys: () => (storage === null ? [] : Object.keys(storage)),
  };
}

/** A random UUID; `crypto.randomUUID` is only there in a secure context, a LAN address is none. */
export function randomUuid(): string {
  if (typeof crypto.randomUUID === "function") {
    return crypto.randomUUID();
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const parts = [0, 8, 12, 16, 20].map((at, i, all) => hex.slice(at, all[i + 1]));
  return parts.join("-");
}

function nextFrame(run: () => void): void {
  let done = false;
  const once = () => {
    if (!done) {
      done = true;
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      run();
    }
  };
  // Whichever is first: a page that is hidden, or becomes so now, gets no frame.
  const timer = setTimeout(once, HIDDEN_FRAME_MS);
  // Every other frame: text that comes at any rate is drawn 30 times a second, for half the work.
  let frame = requestAnimationFrame(() => {
    frame = requestAnimationFrame(once);
  });
}

/** `fetch` tells nothing of a body on its way, so this is the older way. */
function upload(
  address: string,
  form: FormData,
  told: (sent: number) => void,
  signal: AbortSignal,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    const failed = () => {
      signal.removeEventListener("abort", abort);
      reject(signal.aborted ? signal.reason : new TypeError("the line was cut"));
    };
    request.upload.onprogress = (event) => told(event.loaded);
    request.onerror = failed;
    request.onabort = failed;
    request.onload = () => {
      signal.removeEventListener("abort", abort);
      const headers: Record<string, string> = {};
      const wait = request.getResponseHeader("Retry-After");
      if (wait !== null) {
        headers["Retry-After"] = wait;
      }
      resolve(new Response(request.responseText, { status: request.status, headers }));
    };
    signal.addEventListener("abort", abort);
    if (signal.aborted) {
      failed();
      return;
    }
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.send(form);
  });
}

/** The browser that runs this. */
export function browserEnv(): Env {
  return {
    fetch: (address, init) => fetch(address, init),
    upload,
    now: () => Date.now(),
    random: () => Math.random(),
    uuid: randomUuid,
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    nextFrame,
    shared: keyStore(() => localStorage),
    tab: keyStore(() => sessionStorage),
    locks: "locks" in navigator && navigator.locks ? (navigator.locks as Locks) : null,
    online: () => navigator.onLine !== false,
    hidden: () => document.visibilityState === "hidden",
    on: (type, run) => {
      const target = DOCUMENT_EVENTS.has(type) ? document : window;
      target.addEventListener(type, run);
      return () => target.removeEventListener(type, run);
    },
    hash: () => location.hash,
    setHash: (hash, replace) => {
      const address = hash || location.pathname + location.search;
      if (replace) {
        history.replaceState(null, "", address);
      } else {
        history.pushState(null, "", address);
      }
    },
  };
}

/** Who is using the page: the app's terms, and a guest's sign-in where nobody is signed in. */

import { type ReadonlySignal, signal } from "@preact/signals";
import { type Api, ApiError, type SignedIn } from "./api.ts";
import type { Env } from "./env.ts";
import type { Chat } from "./model.ts";
import { delay } from "./waiting.ts";

const MAX_TEXT_BYTES = 262_144;
const MAX_FILE_BYTES = 100 * 1_048_576;
const MAX_ATTACHMENTS = 20;

type State = Chat["access"]["value"];

/** Signing in, once however many ask for it, and however many tabs. */
export class Access {
  readonly #env: Env;
  readonly #api: Api;
  readonly #changed: () => void;
  readonly #lock: string;
  readonly #userKey: string;
  readonly #state = signal<State>("starting");
  readonly #maxTextBytes = signal(MAX_TEXT_BYTES);
  readonly #maxFileBytes = signal(MAX_FILE_BYTES);
  readonly #maxAttachments = signal(MAX_ATTACHMENTS);
  readonly #closed = new AbortController();
  readonly #off: () => void;
  #guests = true;
  #userId = "";
  #renewing: Promise<void> | null = null;
  #signing: Promise<void> | null = null;

  /** @param changed - Called when another person than before is signed in. */
  constructor(env: Env, app: string, api: Api, changed: () => void) {
    this.#env = env;
    this.#api = api;
    this.#changed = changed;
    this.#lock = `capsule:${app}:sign-in`;
    this.#userKey = `capsule:${app}:user`;
    // The cookie is the tabs' common one: where another tab has signed in anew, this one has too.
    this.#off = env.on("storage", (event) => {
      const { key, newValue } = event as StorageEvent;
      if (key === this.#userKey && newValue && this.#userId && newValue !== this.#userId) {
        this.#userId = newValue;
        this.#changed();
      }
    });
  }

  /** Whether somebody was signed in here before, and may still be. */
  get returning(): boolean {
    return this.#env.shared.get(this.#userKey) !== null;
  }

  get state(): ReadonlySignal<State> {
    return this.#state;
  }

  get maxTextBytes(): ReadonlySignal<number> {
    return this.#maxTextBytes;
  }

  get maxFileBytes(): ReadonlySignal<number> {
    return this.#maxFileBytes;
  }

  get maxAttachments(): ReadonlySignal<number> {
    return this.#maxAttachments;
  }

  /**
   * Learns the app's terms and sees to it that somebody is signed in.
   *
   * @returns False where the chat cannot begin; `state` says why.
   * @throws ApiError
   */
  async begin(signal: AbortSignal): Promise<boolean> {
    try {
      const config = await this.#api.config(signal);
      this.#maxTextBytes.value = config.limits?.text_bytes ?? MAX_TEXT_BYTES;
      this.#maxFileBytes.value = config.limits?.file_bytes ?? MAX_FILE_BYTES;
      this.#maxAttachments.value = config.limits?.attachments ?? MAX_ATTACHMENTS;
      this.#guests = config.sign_in?.includes("guest") ?? true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        this.#state.value = "gone";
        return false;
      }
      throw error;
    }
    await this.#signIn(signal);
    return this.#state.peek() !== "signed-out";
  }

  /** All is there: the page can be used. */
  ready(): void {
    this.#state.value = "ready";
  }

  /** Nobody is signed in any more: signs a guest in, and tells where that is another person. */
  renew(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  /** The sidecar took something from this person: another than before means a lost cookie. */
  meet(userId: string): void {
    if (userId !== "" && this.#userId !== "" && userId !== this.#userId) {
      this.#userId = userId;
      this.#env.shared.set(this.#userKey, userId);
      this.#changed();
    }
  }

  close(): void {
    this.#closed.abort();
    this.#off();
  }

  async #renew(): Promise<void> {
    const { signal } = this.#closed;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const before = this.#userId;
        await this.#signIn(signal);
        if (this.#state.peek() === "ready" && this.#userId !== before) {
          this.#changed();
        }
        return;
      } catch (error) {
        if (!(error instanceof ApiError) || signal.aborted) {
          return;
        }
        const ms = delay(attempt, this.#env.random(), error.retryAfterMs);
        await this.#api.waiting.wait(ms, signal);
      }
    }
  }

  /** One at a time, in all tabs: two guests would share a cookie that knows one of them. */
  #signIn(signal: AbortSignal): Promise<void> {
    this.#signing ??= this.#signInOnce(signal).finally(() => {
      this.#signing = null;
    });
    return this.#signing;
  }

  async #signInOnce(signal: AbortSignal): Promise<void> {
    const sign = async () => {
      try {
        // Whoever is signed in already stays who they are, where guests are let in.
        const { user, signInAsGuest } = this.#api;
        this.#take(await (this.#guests ? signInAsGuest : user).call(this.#api, signal));
      } catch (error) {
        if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
          this.#state.value = "signed-out";
          return;
        }
        throw error;
      }
    };
    const { locks } = this.#env;
    await (locks === null ? sign() : locks.request(this.#lock, { signal }, sign));
  }

  #take(signedIn: SignedIn): void {
    this.#userId = signedIn.user?.user_id ?? "";
    this.#env.shared.set(this.#userKey, this.#userId);
  }
}

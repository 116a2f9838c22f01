/**
 * Messages that are not known to be in the log, on disk: each under a key of its own, so that two
 * tabs never write over one another's. An entry belongs to one tab; when that tab is gone, another
 * one takes it over. Two tabs that send the same entry do no harm: its request id is the same.
 */

import type { Attachment } from "../wire.ts";
import { attachmentsOf } from "./draftfiles.ts";
import type { Env } from "./env.ts";

/** A message on its way. */
export interface OutboxEntry {
  /** Its request id. */
  readonly id: string;
  /** Empty while its session is being opened. */
  sessionId: string;
  /** The request id that opens its session; empty where it was open already. */
  readonly openId: string;
  /** The title that its session is opened with: the same for all entries of a new chat. */
  readonly title: string;
  readonly text: string;
  /** The files that it carries. */
  readonly attachments: readonly Attachment[];
  /** Its place among the others. */
  order: number;
  /** The offset it must come behind; null: not known. */
  readonly after: number | null;
  /** Whether it may have reached the sidecar. */
  tried: boolean;
  /** When it was tried first, in milliseconds; 0: not yet. */
  triedAt: number;
  failed: boolean;
  /** Why it failed: a sentence. */
  problem: string;
  /** The file that the sidecar does not keep any more; empty: none. */
  lost: string;
  /** The tab that sends it. */
  owner: string;
}

/** Where the owner of entries is gone, this long passes before another tab takes them: a reload
 * is quicker and has them back. */
const GONE_MS = 5_000;

/** The entries on disk, and which of them are this tab's. */
export class OutboxStore {
  readonly #env: Env;
  readonly #prefix: string;
  readonly #lock: string;
  readonly #tabKey: string;
  readonly #stop = new AbortController();
  #tab = "";

  constructor(env: Env, app: string) {
    this.#env = env;
    this.#prefix = `capsule:${app}:outbox:`;
    this.#lock = `capsule:${app}:tab:`;
    this.#tabKey = `capsule:${app}:tab`;
    this.#tab = env.tab.get(this.#tabKey) ?? env.uuid();
  }

  /** The name of this tab; the same after a reload. */
  get tab(): string {
    return this.#tab;
  }

  /** Makes this tab known to the others; to be called before entries are read or written. */
  async begin(): Promise<void> {
    // A tab that was duplicated has its original's name: the name is then taken.
    if (!(await this.#hold(this.#tab))) {
      this.#tab = this.#env.uuid();
      await this.#hold(this.#tab);
    }
    this.#env.tab.set(this.#tabKey, this.#tab);
  }

  /** Ends what `begin` began. */
  end(): void {
    this.#stop.abort();
  }

  save(entry: OutboxEntry): boolean {
    return this.#env.shared.set(this.#prefix + entry.id, JSON.stringify(entry));
  }

  remove(id: string): void {
    this.#env.shared.remove(this.#prefix + id);
  }

  /**
   * Finds the entries that this tab is to send.
   *
   * @param take - Called with those of this tab and, as soon as they are known to be gone, with
   *   those of other tabs; each is this tab's then.
   */
  adopt(take: (entries: OutboxEntry[]) => void): void {
    const owners = new Map<string, OutboxEntry[]>();
    for (const entry of this.#all()) {
      owners.set(entry.owner, [...(owners.get(entry.owner) ?? []), entry]);
    }
    const own = owners.get(this.#tab) ?? [];
    owners.delete(this.#tab);
    if (this.#env.locks === null) {
      take(this.#claim([...own, ...[...owners.values()].flat()]));
      return;
    }
    take(this.#claim(own));
    for (const owner of owners.keys()) {
      this.#inherit(owner, take).catch(() => undefined); // Ended with this tab.
    }
  }

  async #inherit(owner: string, take: (entries: OutboxEntry[]) => void): Promise<void> {
    const { locks } = this.#env;
    const { signal } = this.#stop;
    const name = this.#lock + owner;
    while (locks !== null && !signal.aborted) {
      // Given when the owner is gone, or is being loaded again.
      await locks.request(name, { signal }, () => Promise.resolve());
      await new Promise<void>((resolve) => {
        this.#env.setTimeout(resolve, GONE_MS);
      });
      const done = await locks.request(name, { ifAvailable: true }, async (lock) => {
        if (lock !== null && !signal.aborted) {
          take(this.#claim(this.#all().filter((entry) => entry.owner === owner)));
        }
        return lock !== null;
      });
      if (done) {
        return;
      }
    }
  }

  #claim(entries: OutboxEntry[]): OutboxEntry[] {
    for (const entry of entries) {
      entry.owner = this.#tab;
      this.save(entry);
    }
    return entries;
  }

  #hold(tab: string): Promise<boolean> {
    const { locks } = this.#env;
    if (locks === null) {
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      locks
        .request(this.#lock + tab, { ifAvailable: true }, (lock) => {
          resolve(lock !== null);
          if (lock === null) {
            return Promise.resolve();
          }
          return new Promise<void>((release) => {
            this.#stop.signal.addEventListener("abort", () => release());
          });
        })
        .catch(() => resolve(true)); // No locks after all: the request ids keep it harmless.
    });
  }

  #all(): OutboxEntry[] {
    const entries = this.#env.shared
      .keys()
      .filter((key) => key.startsWith(this.#prefix))
      .map((key) => parse(this.#env.shared.get(key)))
      .filter((entry) => entry !== null);
    return entries.sort((a, b) => a.order - b.order);
  }
}

function parse(value: string | null): OutboxEntry | null {
  try {
    const said = JSON.parse(value ?? "null") as Partial<OutboxEntry> | null;
    if (typeof said?.id !== "string" || typeof said.text !== "string") {
      return null;
    }
    const text = (each: unknown) => (typeof each === "string" ? each : "");
    const number = (each: unknown) => (typeof each === "number" ? each : 0);
    const entry: OutboxEntry = {
      id: said.id,
      sessionId: text(said.sessionId),
      openId: text(said.openId),
      title: text(said.title),
      text: said.text,
      attachments: attachmentsOf(said.attachments),
      order: number(said.order),
      after: typeof said.after === "number" ? said.after : null,
      tried: said.tried === true,
      triedAt: number(said.triedAt),
      failed: said.failed === true,
      problem: text(said.problem),
      lost: text(said.lost),
      owner: text(said.owner),
    };
    return entry.sessionId || entry.openId ? entry : null;
  } catch {
    return null; // Written by something else.
  }
}

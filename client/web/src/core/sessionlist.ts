/**
 * The session list: pages of it as they are asked for, kept up by events. Of each session it knows
 * as of which offset, so that a page that was read earlier undoes nothing.
 */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Event, ListSessionsResponse, Session } from "../wire.ts";
import type { Api } from "./api.ts";
import type { Env, Timer } from "./env.ts";
import { int, time } from "./items.ts";
import type { SessionEntry } from "./model.ts";

const SEARCH_MS = 200;
const PAGE = 50;
/** Deleted sessions that a late page may still name. */
const MAX_GONE = 500;

interface Known {
  readonly entry: Signal<SessionEntry>;
  /** Events up to this offset are in it. */
  head: number;
}

/** The list. */
export class SessionList {
  readonly query = signal("");
  readonly #env: Env;
  readonly #api: Api;
  readonly #failed: (error: unknown) => void;
  readonly #watched: (sessionId: string) => boolean;
  readonly #known = new Map<string, Known>();
  readonly #gone = new Set<string>();
  /** Raised when the order or the members have changed. */
  readonly #version = signal(0);
  readonly #token = signal("");
  /** What the server found for the query, and how to go on; null: it has not answered. */
  readonly #found = signal<{ ids: ReadonlySet<string>; token: string } | null>(null);
  /** Sessions that are less active than this are not all known. */
  #floor = Number.POSITIVE_INFINITY;
  #search: AbortController | null = null;
  #timer: Timer | undefined;
  readonly #fetching = new Set<string>();
  #generation = 0;
  #more: Promise<void> | null = null;

  /**
   * @param failed - Told where a page could not be loaded.
   * @param watched - Whether a session's timeline is kept: its entry is then looked at, and stays.
   */
  constructor(
    env: Env,
    api: Api,
    failed: (error: unknown) => void,
    watched: (sessionId: string) => boolean,
  ) {
    this.#env = env;
    this.#api = api;
    this.#failed = failed;
    this.#watched = watched;
  }

  readonly sessions: ReadonlySignal<readonly SessionEntry[]> = computed(() => this.#sorted());

  readonly hasMore: ReadonlySignal<boolean> = computed(() =>
    this.query.value.trim() === ""
      ? this.#token.value !== ""
      : (this.#found.value?.token ?? "") !== "",
  );

  /** Takes the first page, in place of all that was known; returns the position it reflects. */
  async load(signal?: AbortSignal): Promise<number> {
    const page = await this.#api.listSessions({ pageSize: PAGE }, signal);
    this.#generation++;
    this.#gone.clear();
    const here = new Set((page.sessions ?? []).map((each) => each.session_id));
    for (const id of this.#known.keys()) {
      if (!here.has(id) && !this.#watched(id)) {
        this.#known.delete(id);
      }
    }
    for (const known of this.#known.values()) {
      known.head = 0;
    }
    this.#floor = Number.POSITIVE_INFINITY;
    this.#takePage(page);
    return int(page.position);
  }

  /** A session's entry; one that is not known yet is empty until it is. */
  entry(sessionId: string): Signal<SessionEntry> {
    return this.#of(sessionId).entry;
  }

  has(sessionId: string): boolean {
    return (this.#known.get(sessionId)?.head ?? 0) > 0;
  }

  /** The newest offset that is known of a session; 0: none. */
  head(sessionId: string): number {
    return this.#known.get(sessionId)?.head ?? 0;
  }

  /** Takes a session as it was answered. */
  merge(session: Session): void {
    const id = session.session_id ?? "";
    const head = int(session.head_offset);
    if (id === "" || this.#gone.has(id)) {
      return;
    }
    const known = this.#of(id);
    if (head < known.head) {
      return; // Events have told more already.
    }
    known.head = Math.max(head, 1);
    this.#set(known, {
      id,
      title: session.title ?? "",
      state: stateOf(session),
      createTime: time(session.create_time) ?? new Date(this.#env.now()),
      activity: Math.max(int(session.activity_position), known.entry.peek().activity),
    });
  }

  /** Takes an event of any session. */
  event(event: Event): void {
    const id = event.session_id ?? "";
    if (event.session_deleted) {
      this.forget(id);
      return;
    }
    if (event.session_opened?.session) {
      const position = event.position ?? "0";
      const head = event.offset ?? "0";
      const { session } = event.session_opened;
      this.merge({ ...session, session_id: id, head_offset: head, activity_position: position });
      return;
    }
    const known = this.#known.get(id);
    const input = event.message_added?.message?.sender === "SENDER_USER";
    if (known === undefined || known.head === 0) {
      if (input) {
        this.#fetch(id); // One from far down the list has come to its top.
      }
      return;
    }
    const offset = int(event.offset);
    if (offset <= known.head) {
      return;
    }
    known.head = offset;
    const entry = known.entry.peek();
    if (event.session_updated) {
      this.#set(known, { ...entry, title: event.session_updated.title ?? "" });
    } else if (event.session_closing) {
      this.#set(known, { ...entry, state: "closing" });
    } else if (event.session_closed) {
      this.#set(known, { ...entry, state: "closed" });
    } else if (input) {
      this.#set(known, { ...entry, activity: Math.max(entry.activity, int(event.position)) });
    }
  }

  /** Takes a session out. */
  forget(sessionId: string): void {
    this.#gone.add(sessionId);
    for (const oldest of this.#gone) {
      if (this.#gone.size <= MAX_GONE) {
        break;
      }
      this.#gone.delete(oldest);
    }
    if (this.#known.delete(sessionId)) {
      this.#version.value++;
    }
  }

  /** Shows another title until the sidecar says what it is; returns how to undo it. */
  retitle(sessionId: string, title: string): () => void {
    const known = this.#of(sessionId);
    const before = known.entry.peek();
    this.#set(known, { ...before, title });
    return () => {
      const now = known.entry.peek();
      if (now.title === title) {
        this.#set(known, { ...now, title: before.title });
      }
    };
  }

  /** Looks for titles: what is known at once, the rest when the server has answered. */
  search(query: string): void {
    if (query === this.query.peek()) {
      return;
    }
    this.query.value = query;
    this.#found.value = null;
    this.#search?.abort();
    this.#search = null;
    this.#env.clearTimeout(this.#timer);
    this.#prune();
    if (query.trim() !== "") {
      this.#timer = this.#env.setTimeout(() => void this.#find(query), SEARCH_MS);
    }
  }

  /** Loads the next page of what is shown. */
  more(): Promise<void> {
    this.#more ??= this.#next().finally(() => {
      this.#more = null;
    });
    return this.#more;
  }

  close(): void {
    this.#search?.abort();
    this.#env.clearTimeout(this.#timer);
  }

  async #next(): Promise<void> {
    const query = this.query.peek().trim();
    const found = this.#found.peek();
    const pageToken = query ? (found?.token ?? "") : this.#token.peek();
    if (pageToken === "") {
      return;
    }
    const generation = this.#generation;
    try {
      const page = await this.#api.listSessions({ query, pageToken, pageSize: PAGE });
      if (generation !== this.#generation) {
        return;
      }
      if (query === "") {
        this.#takePage(page);
      } else if (query === this.query.peek().trim()) {
        this.#takeFound(page, found?.ids);
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  async #find(query: string): Promise<void> {
    const controller = new AbortController();
    this.#search = controller;
    try {
      const asked = { query: query.trim(), pageSize: PAGE };
      const page = await this.#api.listSessions(asked, controller.signal);
      if (this.#search === controller) {
        this.#takeFound(page);
      }
    } catch (error) {
      if (this.#search === controller) {
        this.#failed(error);
      }
    }
  }

  #takePage(page: ListSessionsResponse): void {
    const sessions = page.sessions ?? [];
    for (const session of sessions) {
      this.merge(session);
      this.#floor = Math.min(this.#floor, int(session.activity_position));
    }
    this.#token.value = page.next_page_token ?? "";
    if (this.#token.peek() === "") {
      this.#floor = Number.NEGATIVE_INFINITY;
    }
    this.#version.value++;
  }

  #takeFound(page: ListSessionsResponse, before: ReadonlySet<string> = new Set()): void {
    const sessions = page.sessions ?? [];
    for (const session of sessions) {
      this.merge(session);
    }
    const ids = new Set([...before, ...sessions.map((each) => each.session_id ?? "")]);
    this.#found.value = { ids, token: page.next_page_token ?? "" };
  }

  /** Forgets what only a search has brought. */
  #prune(): void {
    for (const [id, known] of this.#known) {
      const far = known.head > 0 && known.entry.peek().activity < this.#floor;
      if (far && !this.#watched(id)) {
        this.#known.delete(id);
      }
    }
  }

  #of(id: string): Known {
    let known = this.#known.get(id);
    if (known === undefined) {
      const createTime = new Date(this.#env.now());
      known = {
        entry: signal<SessionEntry>({ id, title: "", state: "open", createTime, activity: 0 }),
        head: 0,
      };
      this.#known.set(id, known);
    }
    return known;
  }

  #set(known: Known, entry: SessionEntry): void {
    known.entry.value = entry;
    this.#version.value++;
  }

  /** Asks for a session that events speak of and no page has named. */
  #fetch(id: string): void {
    if (this.#gone.has(id) || this.#fetching.has(id)) {
      return;
    }
    this.#fetching.add(id);
    this.#api
      .timeline(id, { pageSize: 1 })
      .then(
        (page) => this.merge(page.session ?? {}),
        () => undefined, // Gone by now, or the line is down: a later event or page names it.
      )
      .finally(() => this.#fetching.delete(id));
  }

  #sorted(): readonly SessionEntry[] {
    void this.#version.value;
    const query = this.query.value.trim().toLowerCase();
    const found = this.#found.value;
    const shown: SessionEntry[] = [];
    for (const { entry, head } of this.#known.values()) {
      const each = entry.peek();
      const hit = query
        ? each.title.toLowerCase().includes(query) || found?.ids.has(each.id) === true
        : each.activity >= this.#floor;
      if (head > 0 && hit) {
        shown.push(each);
      }
    }
    return shown.sort((a, b) => b.activity - a.activity || (a.id < b.id ? 1 : -1));
  }
}

function stateOf(session: Session): SessionEntry["state"] {
  if (session.state === "SESSION_STATE_CLOSING") {
    return "closing";
  }
  return session.state === "SESSION_STATE_CLOSED" ? "closed" : "open";
}

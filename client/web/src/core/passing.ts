/**
 * What is passing in all of the user's sessions: the text of open streams, status lines, presence.
 * It is kept for every session, so that one that is opened in the middle of a stream shows it at
 * once. A delta costs what it carries; the screen is told of it once per frame.
 */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type {
  Event,
  SessionStatusLine,
  Snapshot,
  TextDelta,
  Transient,
  StatusLine as WireLine,
} from "../wire.ts";
import type { Env } from "./env.ts";
import { int } from "./items.ts";
import { LiveText } from "./livetext.ts";
import type { StatusLine } from "./model.ts";

/** What is held back until the event before it is read. More of it means that something is wrong. */
const MAX_HELD = 2_000;
/** Sessions whose newest offset is remembered. */
const MAX_SEEN = 5_000;
/** Status lines of sessions that are not on screen. */
const MAX_LINES = 1_000;

interface Stream {
  readonly sessionId: string;
  readonly text: LiveText;
}

/** The passing things, by session and stream. */
export class Passing {
  /** null: not known yet. */
  readonly online = signal<boolean | null>(null);
  readonly #env: Env;
  readonly #streams = new Map<string, Stream>();
  readonly #sinks = new Map<string, Signal<string>>();
  readonly #lines = new Map<string, StatusLine & { readonly sessionId: string }>();
  readonly #shown = new Map<string, Signal<readonly StatusLine[]>>();
  readonly #seen = new Map<string, number>();
  readonly #dirty = new Set<string>();
  #painting = false;
  #held: Transient[] = [];
  #live = false;
  #parts: Snapshot[] = [];

  constructor(env: Env) {
    this.#env = env;
  }

  /** A line begins: what is passing comes anew in its snapshot. What is known stays on screen. */
  begin(): void {
    this.#live = false;
    this.#parts = [];
    this.#held = [];
  }

  /** Forgets all: another person, another log. */
  clear(): void {
    this.begin();
    this.#streams.clear();
    this.#lines.clear();
    this.#seen.clear();
    for (const shown of this.#shown.values()) {
      shown.value = [];
    }
  }

  /**
   * Takes an event.
   *
   * @returns False where what was held back for it does not fit.
   */
  event(event: Event): boolean {
    const sessionId = event.session_id ?? "";
    if (event.session_deleted) {
      this.#forgetSession(sessionId);
      return true;
    }
    const offset = int(event.offset);
    if (offset <= (this.#seen.get(sessionId) ?? 0)) {
      return true; // Read before the line broke.
    }
    this.#seen.delete(sessionId); // Last in the order of insertion.
    this.#seen.set(sessionId, offset);
    for (const oldest of this.#seen.keys()) {
      if (this.#seen.size <= MAX_SEEN) {
        break;
      }
      this.#seen.delete(oldest);
    }
    const opened = event.stream_opened?.stream_id;
    if (opened && !this.#streams.has(opened)) {
      this.#streams.set(opened, { sessionId, text: new LiveText() });
    }
    const gone = event.message_added?.stream_id ?? event.stream_withdrawn?.stream_id;
    if (gone) {
      this.#streams.delete(gone);
      this.#dirty.delete(gone);
    }
    const said = event.message_added && event.message_added.message?.sender !== "SENDER_USER";
    if (said || event.stream_opened || event.invocation_ended) {
      this.#dropLine(event.invocation_id ?? "");
    }
    return this.#release(sessionId, offset);
  }

  /**
   * Takes a passing sight.
   *
   * @returns False where something before it is missing: the line has to begin anew.
   */
  transient(transient: Transient): boolean {
    if (transient.app_presence) {
      this.online.value = transient.app_presence.online === true;
      return true;
    }
    if (!this.#live) {
      return true; // It is in the snapshot that is to come.
    }
    if (this.#isEarly(transient)) {
      this.#held.push(transient);
      return this.#held.length <= MAX_HELD;
    }
    return this.#take(transient);
  }

  /** Takes a frame of a snapshot; the last one replaces everything. */
  snapshot(part: Snapshot): void {
    if (part.first) {
      this.#parts = [];
    }
    this.#parts.push(part);
    if (!part.last) {
      return;
    }
    const parts = this.#parts;
    this.begin();
    this.#live = true;
    this.#streams.clear();
    this.#dirty.clear();
    for (const seen of parts.flatMap((each) => each.streams ?? [])) {
      const text = new LiveText();
      text.reset(int(seen.revision), seen.text ?? "");
      const streamId = seen.stream_id ?? "";
      this.#streams.set(streamId, { sessionId: seen.session_id ?? "", text });
      this.#show(streamId);
    }
    this.#setLines(parts.flatMap((each) => each.status_lines ?? []));
    for (const { presence } of parts) {
      if (presence) {
        this.online.value = presence.online === true;
      }
    }
  }

  /** Shows a stream's text in a signal, now and as it grows. */
  attach(streamId: string, sink: Signal<string>): void {
    this.#sinks.set(streamId, sink);
    this.#show(streamId);
  }

  detach(streamId: string): void {
    this.#sinks.delete(streamId);
    this.#dirty.delete(streamId);
  }

  /** A session's status lines. Kept up until `release`. */
  linesOf(sessionId: string): ReadonlySignal<readonly StatusLine[]> {
    let shown = this.#shown.get(sessionId);
    if (shown === undefined) {
      shown = signal(this.#current(sessionId));
      this.#shown.set(sessionId, shown);
    }
    return shown;
  }

  release(sessionId: string): void {
    this.#shown.delete(sessionId);
  }

  /** How many streams are open. */
  get open(): number {
    return this.#streams.size;
  }

  /** Whether it belongs behind an event that is still to come. */
  #isEarly(transient: Transient): boolean {
    const seen = this.#seen.get(transient.session_id ?? "") ?? 0;
    const early = int(transient.after_offset) > seen;
    const delta = transient.text_delta;
    // Of a session that nothing was read of yet, only an unknown stream shows that its opening is
    // to come; its other events were before the position that was begun from.
    return delta ? early && !this.#streams.has(delta.stream_id ?? "") : early && seen > 0;
  }

  #take(transient: Transient): boolean {
    if (transient.text_delta) {
      return this.#delta(transient.text_delta);
    }
    if (transient.status_line) {
      this.#line(transient.session_id ?? "", transient.status_line);
    }
    return true;
  }

  #delta(delta: TextDelta): boolean {
    const streamId = delta.stream_id ?? "";
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      return true; // The event that ended it was read already.
    }
    const what = stream.text.add(int(delta.revision), int(delta.position), delta.text ?? "");
    if (what === "changed" && this.#sinks.has(streamId)) {
      this.#dirty.add(streamId);
      this.#paint();
    }
    return what !== "gap";
  }

  #paint(): void {
    if (this.#painting) {
      return;
    }
    this.#painting = true;
    this.#env.nextFrame(() => {
      this.#painting = false;
      for (const streamId of this.#dirty) {
        this.#show(streamId);
      }
      this.#dirty.clear();
    });
  }

  #show(streamId: string): void {
    const sink = this.#sinks.get(streamId);
    const stream = this.#streams.get(streamId);
    if (sink && stream) {
      sink.value = stream.text.text;
    }
  }

  #release(sessionId: string, offset: number): boolean {
    if (this.#held.length === 0) {
      return true;
    }
    const due = (each: Transient) =>
      each.session_id === sessionId && int(each.after_offset) <= offset;
    const held = this.#held;
    this.#held = held.filter((each) => !due(each));
    return held.filter(due).every((each) => this.#take(each));
  }

  #line(sessionId: string, line: WireLine): void {
    const invocationId = line.invocation_id ?? "";
    if (!line.text) {
      this.#dropLine(invocationId);
      return;
    }
    const { text, detail = "" } = line;
    this.#lines.set(invocationId, { invocationId, text, detail, sessionId });
    for (const oldest of this.#lines.keys()) {
      if (this.#lines.size <= MAX_LINES) {
        break;
      }
      this.#lines.delete(oldest);
    }
    this.#tell(sessionId);
  }

  #dropLine(invocationId: string): void {
    const line = this.#lines.get(invocationId);
    if (line) {
      this.#lines.delete(invocationId);
      this.#tell(line.sessionId);
    }
  }

  #setLines(lines: readonly SessionStatusLine[]): void {
    this.#lines.clear();
    for (const { session_id: sessionId, status_line: line } of lines) {
      if (line?.text) {
        this.#line(sessionId ?? "", line);
      }
    }
    for (const sessionId of this.#shown.keys()) {
      this.#tell(sessionId);
    }
  }

  #tell(sessionId: string): void {
    const shown = this.#shown.get(sessionId);
    if (shown) {
      const lines = this.#current(sessionId);
      if (lines.length > 0 || shown.peek().length > 0) {
        shown.value = lines;
      }
    }
  }

  #current(sessionId: string): readonly StatusLine[] {
    return [...this.#lines.values()].filter((line) => line.sessionId === sessionId);
  }

  #forgetSession(sessionId: string): void {
    for (const [streamId, stream] of this.#streams) {
      if (stream.sessionId === sessionId) {
        this.#streams.delete(streamId);
        this.#dirty.delete(streamId);
      }
    }
    for (const [invocationId, line] of this.#lines) {
      if (line.sessionId === sessionId) {
        this.#lines.delete(invocationId);
      }
    }
    this.#held = this.#held.filter((each) => each.session_id !== sessionId);
    this.#seen.delete(sessionId);
    this.#tell(sessionId);
  }
}

/** A sidecar's log of sessions, for tests: it writes events and folds them by itself. */

import type {
  Attachment,
  Event,
  FollowFrame,
  GetTimelineResponse,
  InvocationKind,
  InvocationStatus,
  OpenPrompt,
  OpenStreamState,
  Prompt,
  Session,
  StatusLine,
  TimelineItem,
} from "../../wire.ts";

/** A turn that runs, or anything else that was queued. */
export interface Work {
  readonly id: string;
  readonly kind: InvocationKind;
  readonly place: number;
}

/** A user's message, and its turn. */
export interface Said {
  readonly offset: number;
  readonly work: Work;
  readonly messageId: string;
}

interface Item {
  place: number;
  offset: number;
  invocation: string;
  what: Partial<TimelineItem>;
}

/** One session. */
export class FakeSession {
  readonly events: Event[] = [];
  readonly items: Item[] = [];
  readonly work = new Map<string, Work>();
  readonly streams = new Map<string, OpenStreamState>();
  readonly lines = new Map<string, StatusLine>();
  title = "";
  activity = 0;
  readonly id: string;
  readonly user: string;
  readonly #log: FakeLog;

  constructor(log: FakeLog, id: string, user: string) {
    this.#log = log;
    this.id = id;
    this.user = user;
  }

  get head(): number {
    return this.events.length;
  }

  session(): Session {
    return {
      session_id: this.id,
      title: this.title,
      user: { user_id: this.user },
      state: "SESSION_STATE_OPEN",
      create_time: "2026-01-02T03:04:05Z",
      head_offset: String(this.head),
      activity_position: String(this.activity),
    };
  }

  append(event: Event, place = 0, item = 0): Event {
    const offset = this.head + 1;
    const whole: Event = {
      session_id: this.id,
      offset: String(offset),
      position: String(this.#log.nextPosition()),
      ...(item || place ? { place: String(place), item_offset: String(item) } : {}),
      ...event,
    };
    this.events.push(whole);
    this.#log.publish(this, { event: whole });
    return whole;
  }

  open(): void {
    const id = this.#log.id("inv");
    this.activity = this.#log.position + 1;
    this.append({ invocation_id: id, session_opened: { session: this.session() } });
    this.work.set(id, { id, kind: "INVOCATION_KIND_ENTER", place: 1 });
  }

  rename(title: string): void {
    this.title = title;
    this.append({ session_updated: { title } });
  }

  /** A user's message; queues its turn. */
  say(text: string, attachments: readonly Attachment[] = []): Said {
    const offset = this.head + 1;
    const work: Work = { id: this.#log.id("inv"), kind: "INVOCATION_KIND_MESSAGE", place: offset };
    const messageId = this.#log.id("msg");
    const message = { message_id: messageId, sender: "SENDER_USER" as const, text, attachments };
    this.items.push({ place: offset, offset, invocation: work.id, what: { message } });
    this.work.set(work.id, work);
    this.activity = this.#log.position + 1;
    this.append({ invocation_id: work.id, message_added: { message } }, offset, offset);
    return { offset, work, messageId };
  }

  reply(work: Work, text: string): void {
    const offset = this.head + 1;
    const message = { message_id: this.#log.id("msg"), sender: "SENDER_APP" as const, text };
    this.items.push({ place: work.place, offset, invocation: work.id, what: { message } });
    this.lines.delete(work.id);
    this.append({ invocation_id: work.id, message_added: { message } }, work.place, offset);
  }

  openStream(work: Work): string {
    const offset = this.head + 1;
    const streamId = this.#log.id("stream");
    const messageId = this.#log.id("msg");
    const stream = { stream_id: streamId, message_id: messageId };
    this.items.push({ place: work.place, offset, invocation: work.id, what: { stream } });
    this.lines.delete(work.id);
    this.streams.set(streamId, {
      session_id: this.id,
      ...stream,
      invocation_id: work.id,
      offset: String(offset),
      place: String(work.place),
      revision: "0",
      text: "",
    });
    this.append({ invocation_id: work.id, stream_opened: stream }, work.place, offset);
    return streamId;
  }

  /** More text, or other text from a position (in code points) on. */
  delta(streamId: string, text: string, replaceFrom?: number): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      return;
    }
    const points = [...(stream.text ?? "")];
    const position = Math.min(replaceFrom ?? points.length, points.length);
    const revision = Number(stream.revision) + (replaceFrom === undefined ? 0 : 1);
    const whole = points.slice(0, position).join("") + text;
    this.streams.set(streamId, { ...stream, revision: String(revision), text: whole });
    const delta = { stream_id: streamId, position: String(position), text };
    this.#log.publish(this, {
      transient: {
        session_id: this.id,
        after_offset: String(this.head),
        text_delta: revision ? { ...delta, revision: String(revision) } : delta,
      },
    });
  }

  closeStream(streamId: string, interrupted = false): void {
    const stream = this.streams.get(streamId);
    const item = this.items.find((each) => each.what.stream?.stream_id === streamId);
    if (stream === undefined || item === undefined) {
      return;
    }
    this.streams.delete(streamId);
    this.lines.delete(stream.invocation_id ?? "");
    const { message_id: messageId = "", text = "", invocation_id: invocation = "" } = stream;
    const message = {
      message_id: messageId,
      sender: "SENDER_APP" as const,
      text,
      ...(interrupted ? { interrupted } : {}),
    };
    item.what = { message };
    const added = { message, stream_id: streamId };
    this.append({ invocation_id: invocation, message_added: added }, item.place, item.offset);
  }

  withdraw(streamId: string): void {
    const at = this.items.findIndex((each) => each.what.stream?.stream_id === streamId);
    const item = this.items[at];
    if (item === undefined) {
      return;
    }
    this.items.splice(at, 1);
    this.streams.delete(streamId);
    const withdrawn = { stream_withdrawn: { stream_id: streamId } };
    this.append({ invocation_id: item.invocation, ...withdrawn }, item.place, item.offset);
  }

  block(work: Work, blockId: string, payload: unknown): void {
    const block = { block_id: blockId, type: "note", payload };
    let item = this.items.find((each) => each.what.block?.block_id === blockId);
    if (item === undefined) {
      item = { place: work.place, offset: this.head + 1, invocation: work.id, what: {} };
      this.items.push(item);
    }
    item.what = { block };
    item.invocation = work.id; // The one that has shown it as it is.
    this.append({ invocation_id: work.id, block_shown: { block } }, item.place, item.offset);
  }

  /** A handler submits a task, which runs in the session and beside its lane. */
  submit(work: Work, name: string): Work {
    const task: Work = { id: this.#log.id("tsk"), kind: "INVOCATION_KIND_TASK", place: work.place };
    this.work.set(task.id, task);
    this.append({ invocation_id: work.id, task_submitted: { task_id: task.id, name } });
    return task;
  }

  /** Shows how far a task is; the sidecar does it itself, so the event is of no invocation. */
  card(task: Work, payload: Readonly<Record<string, unknown>>): void {
    const block = { block_id: task.id, type: "task", payload: { task_id: task.id, ...payload } };
    let item = this.items.find((each) => each.what.block?.block_id === task.id);
    if (item === undefined) {
      item = { place: task.place, offset: this.head + 1, invocation: "", what: {} };
      this.items.push(item);
    }
    item.what = { block };
    this.append({ block_shown: { block } }, item.place, item.offset);
  }

  /** A click on a block. */
  click(name: string, blockId: string): { readonly offset: number; readonly work: Work } {
    const offset = this.head + 1;
    const work: Work = { id: this.#log.id("inv"), kind: "INVOCATION_KIND_ACTION", place: offset };
    this.work.set(work.id, work);
    this.append({ invocation_id: work.id, action_sent: { name, block_id: blockId } });
    return { offset, work };
  }

  /** The prompts that wait. */
  openPrompts(): OpenPrompt[] {
    return this.items.flatMap(({ place, offset, invocation, what: { prompt } }) =>
      prompt?.status === "PROMPT_STATUS_OPEN"
        ? [
            {
              session_id: this.id,
              invocation_id: invocation,
              place: String(place),
              offset: String(offset),
              prompt,
            },
          ]
        : [],
    );
  }

  prompt(promptId: string): Prompt | undefined {
    return this.items.find((each) => each.what.prompt?.prompt_id === promptId)?.what.prompt;
  }

  /** Asks; returns the prompt's id. */
  ask(work: Work, more: Prompt): string {
    const offset = this.head + 1;
    const prompt: Prompt = {
      prompt_id: this.#log.id("prm"),
      message: "Well?",
      status: "PROMPT_STATUS_OPEN",
      ...more,
    };
    this.items.push({ place: work.place, offset, invocation: work.id, what: { prompt } });
    this.append({ invocation_id: work.id, prompt_opened: { prompt } }, work.place, offset);
    return prompt.prompt_id ?? "";
  }

  /** Ends a prompt; false where it has ended. */
  endPrompt(promptId: string, change: Prompt): boolean {
    const item = this.items.find((each) => each.what.prompt?.prompt_id === promptId);
    const before = item?.what.prompt;
    if (item === undefined || before?.status !== "PROMPT_STATUS_OPEN") {
      return false;
    }
    const prompt = { ...before, ...change };
    item.what = { prompt };
    const ended = { prompt_ended: { prompt } };
    this.append({ invocation_id: item.invocation, ...ended }, item.place, item.offset);
    return true;
  }

  status(work: Work, text: string): void {
    if (!this.work.has(work.id)) {
      return; // It has ended: it says nothing any more.
    }
    const line = { invocation_id: work.id, text };
    this.lines.set(work.id, line);
    this.#log.publish(this, {
      transient: { session_id: this.id, after_offset: String(this.head), status_line: line },
    });
  }

  end(work: Work, status: InvocationStatus = "INVOCATION_STATUS_COMPLETED", reason = ""): void {
    if (!this.work.has(work.id)) {
      return; // It has ended: a sidecar ends a turn once.
    }
    for (const [streamId, stream] of [...this.streams]) {
      if (stream.invocation_id === work.id) {
        this.closeStream(streamId, true);
      }
    }
    for (const open of this.openPrompts()) {
      if (open.invocation_id === work.id) {
        this.endPrompt(open.prompt?.prompt_id ?? "", { status: "PROMPT_STATUS_WITHDRAWN" });
      }
    }
    this.work.delete(work.id);
    this.lines.delete(work.id);
    const ended = { kind: work.kind, status, reason };
    const event = { invocation_id: work.id, invocation_ended: ended };
    const told = ["INVOCATION_STATUS_FAILED", "INVOCATION_STATUS_STOPPED"].includes(status);
    if (work.kind === "INVOCATION_KIND_TASK" || !told) {
      this.append(event);
      return;
    }
    const offset = this.head + 1;
    this.items.push({ place: work.place, offset, invocation: work.id, what: { ended } });
    this.append(event, work.place, offset);
  }

  page(size: number, token: string): GetTimelineResponse {
    const sorted = this.items.toSorted((a, b) => a.place - b.place || a.offset - b.offset);
    const [place = 0, offset = 0] = token.split(".").map(Number);
    const before = token
      ? sorted.filter((i) => i.place < place || (i.place === place && i.offset < offset))
      : sorted;
    const items = before.slice(-size);
    const first = items[0];
    const more = before.length > items.length && first !== undefined;
    return {
      items: items.map((each) => ({
        place: String(each.place),
        offset: String(each.offset),
        invocation_id: each.invocation,
        ...each.what,
      })),
      ...(more ? { next_page_token: `${first.place}.${first.offset}` } : {}),
      session: this.session(),
      offset: String(this.head),
      position: String(this.#log.position),
      ...(token ? {} : { pending: this.pending() }),
    };
  }

  pending() {
    return [...this.work.values()]
      .filter((work) => work.kind !== "INVOCATION_KIND_TASK")
      .map((work) => ({ invocation_id: work.id, kind: work.kind }));
  }
}

/** All sessions of all people. */
export class FakeLog {
  readonly sessions = new Map<string, FakeSession>();
  position = 0;
  online = true;
  /** Told of every frame. */
  onFrame: (user: string, frame: FollowFrame) => void = () => undefined;
  readonly #history: { user: string; event: Event }[] = [];
  #ids = 0;

  id(kind: string): string {
    this.#ids += 1;
    return `${kind}_${this.#ids}`;
  }

  nextPosition(): number {
    this.position += 1 + (this.position % 3); // With holes.
    return this.position;
  }

  open(user: string): FakeSession {
    const session = new FakeSession(this, this.id("ses"), user);
    this.sessions.set(session.id, session);
    session.open();
    return session;
  }

  remove(session: FakeSession): void {
    this.sessions.delete(session.id);
    const position = String(this.nextPosition());
    this.publish(session, {
      event: { session_id: session.id, position, session_deleted: {} },
    });
  }

  publish(session: FakeSession, frame: FollowFrame): void {
    if (frame.event) {
      this.#history.push({ user: session.user, event: frame.event });
    }
    this.onFrame(session.user, frame);
  }

  /** The sessions of a person, the most recently active first. */
  of(user: string): FakeSession[] {
    const found = [...this.sessions.values()].filter((each) => each.user === user);
    return found.sort((a, b) => b.activity - a.activity);
  }

  /** What a follower reads from a position on, up to its snapshot, which is in two parts. */
  replay(user: string, after: number): FollowFrame[] {
    const events = this.#history.filter(
      (each) =>
        each.user === user &&
        Number(each.event.position) > after &&
        (each.event.session_deleted || this.sessions.has(each.event.session_id ?? "")),
    );
    const streams = this.of(user).flatMap((each) => [...each.streams.values()]);
    const lines = this.of(user).flatMap((each) =>
      [...each.lines.values()].map((line) => ({ session_id: each.id, status_line: line })),
    );
    const prompts = this.of(user).flatMap((each) => each.openPrompts());
    const half = streams.length >> 1;
    const position = String(this.position);
    return [
      ...events.map(({ event }) => ({ event })),
      { snapshot: { position, streams: streams.slice(0, half), prompts, first: true } },
      {
        snapshot: {
          position,
          streams: streams.slice(half),
          status_lines: lines,
          presence: this.online ? { online: true } : {},
          last: true,
        },
      },
    ];
  }
}

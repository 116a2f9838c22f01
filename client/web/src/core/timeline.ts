/**
 * A session's timeline: a fold of its pages and its events. It asks nobody for anything; where
 * something is missing it says so. Its signals are written by `publish`, once for many events.
 */

import { signal } from "@preact/signals";
import type { Event, GetTimelineResponse, InvocationKind, Message, TimelineItem } from "../wire.ts";
import { before, int, type MessageEntry } from "./items.ts";
import { type At, type ItemHost, ItemSet } from "./itemset.ts";
import type { TimelineEntry, WorkEnd } from "./model.ts";
import { cardOf, isBeside, isTask, type TaskCard } from "./tasks.ts";

/** Events about items that lie before the loaded ones, kept while those are being fetched. */
const MAX_BELOW = 2_000;
/** So much of what waits is told by a page; more of it may wait then. */
const MAX_PENDING = 200;

/** The fold. */
export class Timeline {
  readonly items = signal<readonly TimelineEntry[]>([]);
  /** What waits or runs in the session's lane, in order of arrival; tasks run beside it. */
  readonly pending = signal<ReadonlyMap<string, InvocationKind>>(new Map());
  readonly hasOlder = signal(false);
  readonly #host: ItemHost;
  #set: ItemSet;
  #local: MessageEntry[] = [];
  readonly #waiting = new Map<string, InvocationKind>();
  /** The tasks that are known to have ended. */
  readonly #endedTasks = new Set<string>();
  #offset = 0;
  #olderToken = "";
  /** Where the loaded items begin; null: there are none before them. */
  #floor: { readonly place: number; readonly offset: number } | null = null;
  #below: Event[] | null = null;
  #changed = false;
  /** Whether the page has told of all that waits. */
  #whole = true;

  constructor(host: ItemHost) {
    this.#host = {
      attach: host.attach,
      detach: host.detach,
      claim: (message, offset) => {
        const own = host.claim(message, offset);
        if (own) {
          this.removeLocal(own);
        }
        return own;
      },
      prompt: host.prompt,
    };
    this.#set = new ItemSet(this.#host);
  }

  /** The offset that it reflects. */
  get offset(): number {
    return this.#offset;
  }

  get olderToken(): string {
    return this.#olderToken;
  }

  /** How work has ended, as far as it is known; read it inside of a computed. */
  over(invocationId: string): WorkEnd {
    if (invocationId === "" || this.pending.value.has(invocationId)) {
      return "";
    }
    if (isTask(invocationId)) {
      // No page tells of the tasks that run: it is over when its end or its card says so.
      return this.#endedTasks.has(invocationId) ? "ended" : "";
    }
    const ended = this.#set.ended(invocationId);
    if (ended?.how === "stopped") {
      return "stopped";
    }
    return ended || this.#whole ? "ended" : "";
  }

  /** Takes the newest page, in place of all that was known; items that were known keep their key. */
  load(page: GetTimelineResponse): void {
    const earlier = this.#set.entries;
    this.#set = new ItemSet(this.#host, this.#set);
    this.#below = null;
    this.#offset = int(page.offset);
    for (const item of page.items ?? []) {
      this.#putItem(item, this.#offset);
    }
    // What this tab sent and had answered, while the page was on its way.
    for (const entry of earlier) {
      const newer = entry.kind === "message" && entry.offset > this.#offset && !entry.streamId;
      if (newer && !this.#set.message(entry.messageId)) {
        this.#set.keep(entry);
      }
    }
    this.#set.filled();
    this.#waiting.clear();
    this.#whole = (page.pending?.length ?? 0) < MAX_PENDING;
    for (const { invocation_id: id = "", kind = "INVOCATION_KIND_UNSPECIFIED" } of page.pending ??
      []) {
      if (!isBeside(kind)) {
        this.#waiting.set(id, kind);
      }
    }
    this.#changed = true;
    this.#setFloor(page);
  }

  /** Call before an older page is asked for: what happens to its items meanwhile is kept. */
  beginOlder(): void {
    this.#below = [];
  }

  /**
   * Takes an older page.
   *
   * @returns False where too much has happened since it was asked for: ask again.
   */
  prepend(page: GetTimelineResponse): boolean {
    const below = this.#below ?? [];
    this.#below = null;
    if (below.length > MAX_BELOW) {
      return false;
    }
    const asOf = int(page.offset);
    for (const item of page.items ?? []) {
      this.#putItem(item, asOf);
    }
    this.#setFloor(page);
    for (const event of below) {
      if (int(event.offset) > asOf) {
        this.#itemEvent(event);
      }
    }
    return true;
  }

  /**
   * Takes an event.
   *
   * @returns `old` where it is in here already; `gap` where one before it is missing.
   */
  apply(event: Event): "applied" | "old" | "gap" {
    const offset = int(event.offset);
    if (offset <= this.#offset) {
      return "old";
    }
    if (offset > this.#offset + 1) {
      return "gap";
    }
    this.#offset = offset;
    this.#work(event);
    this.#itemEvent(event);
    return "applied";
  }

  /** Shows an item at the end that is not in the log. */
  addLocal(entry: MessageEntry): void {
    this.#local.push(entry);
    this.#set.moved = true;
  }

  removeLocal(entry: MessageEntry): void {
    this.#local = this.#local.filter((each) => each !== entry);
    this.#set.moved = true;
  }

  /**
   * Puts a message of this tab to its place: the sidecar has it, its event may be still to come.
   * Where the event was here first, there is nothing left to do.
   */
  settle(entry: MessageEntry, message: Message, offset: number, invocationId: string): void {
    this.removeLocal(entry);
    if (this.#set.message(message.message_id ?? "")) {
      return;
    }
    const at = { place: offset, offset, asOf: offset };
    if (entry.place === 0) {
      this.#set.place(entry, at, message);
    } else {
      this.#set.putMessage(message, at); // It was taken for another one of the same words.
    }
    this.begun(invocationId, "INVOCATION_KIND_MESSAGE", offset);
  }

  /** The sidecar has queued work; its event may be still to come. */
  begun(invocationId: string, kind: InvocationKind, offset: number): void {
    if (offset > this.#offset && invocationId) {
      this.#waiting.set(invocationId, kind);
      this.#changed = true;
    }
  }

  /** Tells the screen what has become different. */
  publish(): void {
    if (this.#set.moved) {
      this.#set.moved = false;
      this.items.value = [...this.#set.entries, ...this.#local];
    }
    this.hasOlder.value = this.#olderToken !== "";
    if (this.#changed) {
      this.#changed = false;
      this.pending.value = new Map(this.#waiting);
    }
  }

  /** Lets go of the streams: nobody looks at it any more. */
  close(): void {
    this.#set.detach();
  }

  #work(event: Event): void {
    const invocationId = event.invocation_id ?? "";
    const begins = workOf(event);
    if (begins && invocationId) {
      this.#waiting.set(invocationId, begins);
      this.#changed = true;
    } else if (event.invocation_ended && this.#waiting.delete(invocationId)) {
      this.#changed = true;
    }
    if (isBeside(event.invocation_ended?.kind)) {
      this.#taskIs({ id: invocationId, ended: true });
    }
  }

  /** One that failed goes on where an operator has it tried again: its card says so. */
  #taskIs(card: TaskCard | null): void {
    if (card && this.#endedTasks.has(card.id) !== card.ended) {
      this.#endedTasks[card.ended ? "add" : "delete"](card.id);
      this.#changed = true;
    }
  }

  /** What an event does to the items. */
  #itemEvent(event: Event): void {
    const { message_added: added, block_shown: shown, invocation_ended: ended } = event;
    const at: At = {
      place: int(event.place),
      offset: int(event.item_offset),
      asOf: int(event.offset),
    };
    if (event.stream_withdrawn) {
      if (!this.#set.withdraw(event.stream_withdrawn.stream_id ?? "")) {
        this.#keepBelow(event);
      }
    } else if (at.offset === 0) {
      return; // It makes no item.
    } else if (this.#floor !== null && before(at, this.#floor)) {
      this.#keepBelow(event); // Of an item that is not loaded: it comes with its page.
    } else if (added?.message) {
      this.#set.putMessage(added.message, at, added.stream_id);
    } else if (event.stream_opened) {
      this.#set.putStream(event.stream_opened, at);
    } else if (shown?.block) {
      this.#taskIs(cardOf(shown.block));
      this.#set.putBlock(shown.block, event.invocation_id ?? "", at);
    } else if (event.prompt_opened?.prompt || event.prompt_ended?.prompt) {
      const prompt = event.prompt_ended?.prompt ?? event.prompt_opened?.prompt ?? {};
      this.#set.putPrompt(prompt, event.invocation_id ?? "", at);
    } else if (ended && !isBeside(ended.kind) && ended.status !== "INVOCATION_STATUS_COMPLETED") {
      this.#set.putEnded(ended, event.invocation_id ?? "", at);
    }
  }

  #putItem(item: TimelineItem, asOf: number): void {
    const at = { place: int(item.place), offset: int(item.offset), asOf };
    if (item.message) {
      this.#set.putMessage(item.message, at);
    } else if (item.stream) {
      this.#set.putStream(item.stream, at);
    } else if (item.block) {
      this.#taskIs(cardOf(item.block));
      this.#set.putBlock(item.block, item.invocation_id ?? "", at);
    } else if (item.prompt) {
      this.#set.putPrompt(item.prompt, item.invocation_id ?? "", at);
    } else if (item.ended && !isBeside(item.ended.kind)) {
      this.#set.putEnded(item.ended, item.invocation_id ?? "", at);
    }
  }

  #keepBelow(event: Event): void {
    if (this.#below !== null && this.#below.length <= MAX_BELOW) {
      this.#below.push(event);
    }
  }

  /** A page is in: the items begin with its first one, or with nothing missing before them. */
  #setFloor(page: GetTimelineResponse): void {
    this.#olderToken = page.next_page_token ?? "";
    const [first] = page.items ?? [];
    if (this.#olderToken === "") {
      this.#floor = null;
    } else if (first) {
      this.#floor = { place: int(first.place), offset: int(first.offset) };
    }
  }
}

/** The work that an event queues. */
function workOf(event: Event): InvocationKind | null {
  if (event.session_opened) {
    return "INVOCATION_KIND_ENTER";
  }
  if (event.session_closing) {
    return "INVOCATION_KIND_EXIT";
  }
  if (event.action_sent) {
    return "INVOCATION_KIND_ACTION";
  }
  const user = event.message_added?.message?.sender === "SENDER_USER";
  return user ? "INVOCATION_KIND_MESSAGE" : null;
}

/** The items of a timeline in their order, found by what they are of. */

import type { Signal } from "@preact/signals";
import type { Block, InvocationEnded, Message, Prompt, StreamOpened } from "../wire.ts";
import { BlockEntry, before, EndedEntry, type Entry, MessageEntry } from "./items.ts";
import type { PromptEntry } from "./prompts.ts";

/** What the items need of their surroundings. */
export interface ItemHost {
  /** Shows an open stream's text in a signal, from now on. */
  attach(streamId: string, sink: Signal<string>): void;
  detach(streamId: string): void;
  /** The item that stands for a message of this tab until it is in the log. */
  claim(message: Message, offset: number): MessageEntry | undefined;
  /** What stands for a prompt; `known` where nothing else does. */
  prompt(prompt: Prompt, invocationId: string, at: At, known?: PromptEntry): PromptEntry;
}

/** Where an item sorts, and as of which offset this is how it is. */
export interface At {
  readonly place: number;
  readonly offset: number;
  readonly asOf: number;
}

/**
 * The items. Each `put` makes an item or changes the one that is there; one that was known before a
 * page was loaded anew (`known`) is used again, so that it keeps its key.
 */
export class ItemSet {
  readonly #host: ItemHost;
  #known: ItemSet | null;
  readonly #entries: Entry[] = [];
  readonly #messages = new Map<string, MessageEntry>();
  readonly #streams = new Map<string, MessageEntry>();
  readonly #blocks = new Map<string, BlockEntry>();
  readonly #ended = new Map<string, EndedEntry>();
  readonly #prompts = new Map<string, PromptEntry>();
  /** Whether items have come, gone or moved since it was set to false. */
  moved = true;

  /** @param known - What was there before; its items are used again while this is filled. */
  constructor(host: ItemHost, known: ItemSet | null = null) {
    this.#host = host;
    this.#known = known;
    known?.detach();
  }

  /** In order. */
  get entries(): readonly Entry[] {
    return this.#entries;
  }

  message(messageId: string): MessageEntry | undefined {
    return this.#messages.get(messageId);
  }

  block(blockId: string): BlockEntry | undefined {
    return this.#blocks.get(blockId);
  }

  ended(invocationId: string): EndedEntry | undefined {
    return this.#ended.get(invocationId);
  }

  prompt(promptId: string): PromptEntry | undefined {
    return this.#prompts.get(promptId);
  }

  /** Lets go of the streams' texts. */
  detach(): void {
    for (const streamId of this.#streams.keys()) {
      this.#host.detach(streamId);
    }
  }

  /** What was there before is needed no longer. */
  filled(): void {
    this.#known = null;
  }

  putMessage(message: Message, at: At, streamId = ""): void {
    const id = message.message_id ?? "";
    const here = this.#messages.get(id) ?? (streamId ? this.#streams.get(streamId) : undefined);
    if (here) {
      if (at.asOf > here.asOf || here.streaming.peek()) {
        this.#endStream(here);
        here.asOf = Math.max(here.asOf, at.asOf);
        here.complete(message);
        this.#messages.set(id, here);
      }
      return;
    }
    const user = message.sender === "SENDER_USER";
    const known = this.#known?.message(id);
    const own = user && !known ? this.#host.claim(message, at.offset) : undefined;
    this.place(own ?? known ?? new MessageEntry(id, user ? "user" : "app"), at, message);
  }

  /** Makes an item the one of a message. */
  place(entry: MessageEntry, at: At, message: Message): void {
    Object.assign(entry, at);
    entry.streamId = "";
    entry.complete(message);
    this.keep(entry);
  }

  /** Takes an item as it is. */
  keep(entry: MessageEntry): void {
    this.#messages.set(entry.messageId, entry);
    this.#insert(entry);
  }

  putStream(opened: StreamOpened, at: At): void {
    const id = opened.message_id ?? "";
    const streamId = opened.stream_id ?? "";
    if (this.#messages.has(id) || this.#streams.has(streamId)) {
      return;
    }
    const known = this.#known?.message(id);
    const entry = known ?? new MessageEntry(id, "app", "", "sent", true);
    Object.assign(entry, at);
    entry.messageId = id;
    entry.streamId = streamId;
    entry.streaming.value = true;
    this.#streams.set(streamId, entry);
    this.keep(entry);
    this.#host.attach(streamId, entry.text);
  }

  /**
   * Takes a stream's item out.
   *
   * @returns False where there is none.
   */
  withdraw(streamId: string): boolean {
    const entry = this.#streams.get(streamId);
    if (entry === undefined) {
      return false;
    }
    this.#endStream(entry);
    this.#messages.delete(entry.messageId);
    this.#remove(entry);
    return true;
  }

  putBlock(block: Block, invocationId: string, at: At): void {
    const id = block.block_id ?? "";
    const type = block.type ?? "";
    const here = this.#blocks.get(id);
    if (here && here.asOf >= at.asOf) {
      return;
    }
    const known = here ?? this.#known?.block(id);
    if (here && here.type !== type) {
      this.#remove(here); // Of another type now: another component shows it, in the same place.
    }
    if (here && here.type === type) {
      here.asOf = at.asOf;
      here.update(block, invocationId);
      return;
    }
    const key = here ? `${here.key}:${type}` : `block:${id}`;
    let entry = new BlockEntry(key, id, type, block, invocationId);
    if (known?.type === type) {
      entry = known;
      entry.update(block, invocationId);
    }
    Object.assign(entry, at);
    this.#blocks.set(id, entry);
    this.#insert(entry);
  }

  putEnded(ended: InvocationEnded, invocationId: string, at: At): void {
    if (this.#ended.has(invocationId)) {
      return;
    }
    const known = this.#known?.ended(invocationId);
    const entry = known ?? new EndedEntry(`ended:${invocationId}`, ended);
    Object.assign(entry, at);
    this.#ended.set(invocationId, entry);
    this.#insert(entry);
  }

  /** A prompt ends once, and so needs no offset to know what is newer. */
  putPrompt(prompt: Prompt, invocationId: string, at: At): void {
    const id = prompt.prompt_id ?? "";
    const here = this.#prompts.get(id);
    const known = here ?? this.#known?.prompt(id);
    const entry = this.#host.prompt(prompt, invocationId, at, known);
    if (here === entry) {
      return;
    }
    if (here) {
      this.#remove(here);
    }
    Object.assign(entry, at);
    this.#prompts.set(id, entry);
    this.#insert(entry);
  }

  #endStream(entry: MessageEntry): void {
    if (entry.streamId) {
      this.#host.detach(entry.streamId);
      this.#streams.delete(entry.streamId);
      entry.streamId = "";
    }
  }

  #insert(entry: Entry): void {
    let low = 0;
    let high = this.#entries.length;
    const last = this.#entries[high - 1];
    if (last === undefined || before(last, entry)) {
      low = high; // Nearly always.
    }
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#entries[middle];
      if (other && before(other, entry)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    this.#entries.splice(low, 0, entry);
    this.moved = true;
  }

  #remove(entry: Entry): void {
    const at = this.#entries.indexOf(entry);
    if (at >= 0) {
      this.#entries.splice(at, 1);
      this.moved = true;
    }
  }
}

/** The items of a timeline. What changes of them are signals; the objects last for the item's life. */

import { batch, type Signal, signal } from "@preact/signals";
import type { Attachment, Block, InvocationEnded, Message } from "../wire.ts";
import type { BlockItem, Delivery, EndedItem, MessageItem } from "./model.ts";
import type { PromptEntry } from "./prompts.ts";

/** A 64-bit number of the JSON form; positions stay far below 2^53. */
export function int(value: string | undefined): number {
  return value === undefined ? 0 : Number(value);
}

/** A time of the JSON form. */
export function time(value: string | undefined): Date | null {
  return value ? new Date(value) : null;
}

const DAY_SECONDS = 86_400;

/** Where an item sorts, and as of which offset it is known. */
export interface Placed {
  /** 0: it has no place yet, its message is not in the log. */
  place: number;
  offset: number;
  /** Events up to this offset are in it. */
  asOf: number;
}

/** A message, a stream that becomes one, or a message that is being sent. */
export class MessageEntry implements MessageItem, Placed {
  readonly kind = "message" as const;
  readonly text: Signal<string>;
  readonly streaming: Signal<boolean>;
  readonly interrupted = signal(false);
  readonly delivery: Signal<Delivery>;
  readonly problem = signal("");
  readonly attachments = signal<readonly Attachment[]>([]);
  place = 0;
  offset = 0;
  asOf = 0;
  messageId = "";
  streamId = "";
  createTime: Date | null = null;

  constructor(
    readonly key: string,
    readonly sender: "user" | "app",
    text = "",
    delivery: Delivery = "sent",
    streaming = false,
  ) {
    this.text = signal(text);
    this.streaming = signal(streaming);
    this.delivery = signal(delivery);
  }

  /** Takes the message as it is in the log. */
  complete(message: Message): void {
    this.messageId = message.message_id ?? "";
    this.createTime = time(message.create_time);
    this.text.value = message.text ?? "";
    const attachments = message.attachments ?? [];
    if (!isSame(attachments, this.attachments.peek())) {
      this.attachments.value = attachments; // Else pictures that are shown would be loaded again.
    }
    this.interrupted.value = message.interrupted === true;
    this.streaming.value = false;
    this.delivery.value = "sent";
    this.problem.value = "";
  }
}

/** Whether files are the same, and their addresses as good as: a new one is another each hour. */
function isSame(some: readonly Attachment[], others: readonly Attachment[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ file_id, url }, at) => {
      const other = others[at];
      return file_id === other?.file_id && end(url) - end(other?.url) < DAY_SECONDS;
    })
  );
}

/** When a signed address ends, in seconds; 0 where it does not say. */
function end(url = ""): number {
  return Number(/[?&]expires=(\d{1,12})\b/.exec(url)?.[1] ?? 0);
}

/** A block; changes in place. */
export class BlockEntry implements BlockItem, Placed {
  readonly kind = "block" as const;
  readonly payload: Signal<Readonly<Record<string, unknown>>>;
  readonly invocationId: Signal<string>;
  place = 0;
  offset = 0;
  asOf = 0;

  constructor(
    readonly key: string,
    readonly blockId: string,
    readonly type: string,
    block: Block,
    invocationId: string,
  ) {
    this.payload = signal(payloadOf(block));
    this.invocationId = signal(invocationId);
  }

  update(block: Block, invocationId: string): void {
    batch(() => {
      this.payload.value = payloadOf(block);
      this.invocationId.value = invocationId;
    });
  }
}

function payloadOf(block: Block): Readonly<Record<string, unknown>> {
  const { payload } = block;
  return typeof payload === "object" && payload !== null && !Array.isArray(payload)
    ? (payload as Record<string, unknown>)
    : {};
}

/** A turn that did not complete. */
export class EndedEntry implements EndedItem, Placed {
  readonly kind = "ended" as const;
  readonly how: EndedItem["how"];
  readonly reason: string;
  readonly referenceId: string;
  place = 0;
  offset = 0;
  asOf = 0;

  constructor(
    readonly key: string,
    ended: InvocationEnded,
  ) {
    this.how =
      ended.status === "INVOCATION_STATUS_STOPPED"
        ? "stopped"
        : ended.status === "INVOCATION_STATUS_UNHANDLED"
          ? "unhandled"
          : "failed";
    this.reason = ended.reason ?? "";
    this.referenceId = ended.reference_id ?? "";
  }
}

/** Any item. */
export type Entry = MessageEntry | BlockEntry | EndedEntry | PromptEntry;

/** Orders two places in a timeline. */
export function before(
  a: { place: number; offset: number },
  b: { place: number; offset: number },
): boolean {
  return a.place < b.place || (a.place === b.place && a.offset < b.offset);
}

/** Server-Sent Events out of the body of a response. */

/** One event. */
export interface SseEvent {
  /** `message` where none was named. */
  readonly type: string;
  readonly data: string;
  /** The last id that was set, this event's or an earlier one's. Empty: none. */
  readonly id: string;
}

/** What a server may send before an event ends, in UTF-16 units; beyond it the line is broken. */
export const MAX_EVENT_CHARS = 16 << 20;

/** The event is larger than anything the protocol allows. */
export class TooLarge extends Error {
  override readonly name = "TooLarge";
}

/** Takes bytes as they come, cut anywhere, and gives events as they become complete. */
export class SseParser {
  readonly #decoder = new TextDecoder();
  readonly #max: number;
  /** Pieces of the line that has not ended: joined once, so a long line costs its length. */
  #line: string[] = [];
  #size = 0;
  #data: string[] = [];
  #type = "";
  #id = "";
  #skipNewline = false;

  constructor(max = MAX_EVENT_CHARS) {
    this.#max = max;
  }

  /**
   * Takes the next bytes.
   *
   * @returns The events that they complete.
   * @throws TooLarge
   */
  push(bytes: Uint8Array): SseEvent[] {
    const events: SseEvent[] = [];
    const text = this.#decoder.decode(bytes, { stream: true });
    let at = 0;
    if (this.#skipNewline && text.length > 0) {
      this.#skipNewline = false;
      at = text.startsWith("\n") ? 1 : 0;
    }
    while (at < text.length) {
      const end = lineEnd(text, at);
      if (end < 0) {
        this.#grow(text.length - at);
        this.#line.push(text.slice(at));
        break;
      }
      this.#grow(end - at);
      this.#line.push(text.slice(at, end));
      const line = this.#line.length === 1 ? (this.#line[0] ?? "") : this.#line.join("");
      this.#line = [];
      this.#take(line, events);
      at = end + 1;
      if (text[end] === "\r") {
        if (at === text.length) {
          this.#skipNewline = true;
        } else if (text[at] === "\n") {
          at += 1;
        }
      }
    }
    return events;
  }

  #grow(chars: number): void {
    this.#size += chars;
    if (this.#size > this.#max) {
      throw new TooLarge(`an event of more than ${this.#max} characters`);
    }
  }

  #take(line: string, events: SseEvent[]): void {
    if (line === "") {
      if (this.#data.length > 0) {
        const data = this.#data.join("\n");
        events.push({ type: this.#type || "message", data, id: this.#id });
      }
      this.#data = [];
      this.#type = "";
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) {
      this.#size -= line.length; // A comment is not kept.
      return;
    }
    const name = colon < 0 ? line : line.slice(0, colon);
    const skip = line[colon + 1] === " " ? 2 : 1;
    const value = colon < 0 ? "" : line.slice(colon + skip);
    if (name === "data") {
      this.#data.push(value);
    } else if (name === "event") {
      this.#type = value;
    } else if (name === "id" && !value.includes("\0")) {
      this.#id = value;
    }
  }
}

function lineEnd(text: string, from: number): number {
  const feed = text.indexOf("\n", from);
  const end = feed < 0 ? text.length : feed;
  // Servers write \n; a \r is looked for only within this line, so this stays linear.
  for (let i = from; i < end; i++) {
    if (text.charCodeAt(i) === 13) {
      return i;
    }
  }
  return feed;
}

/**
 * Reads a body to its end.
 *
 * @param body - The response's body.
 * @param take - Called for every arrival of bytes, also for those that complete no event; returns
 *   false to end the reading.
 * @throws Whatever the network throws, and TooLarge.
 */
export async function readSse(
  body: ReadableStream<Uint8Array>,
  take: (events: readonly SseEvent[]) => boolean,
): Promise<void> {
  const reader = body.getReader();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !take(parser.push(value))) {
        return;
      }
    }
  } finally {
    // Lets go of the connection where the reading ends early; a broken one has nothing to cancel.
    reader.cancel().catch(() => undefined);
  }
}

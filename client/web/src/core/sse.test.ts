import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSse, type SseEvent, SseParser, TooLarge } from "./sse.ts";

const encode = (text: string) => new TextEncoder().encode(text);

function parse(parts: Uint8Array[]): SseEvent[] {
  const parser = new SseParser();
  return parts.flatMap((part) => parser.push(part));
}

/** Cuts bytes at places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length];
  at.sort((a, b) => a - b);
  return at.slice(1).map((end, i) => bytes.slice(at[i], end));
}

describe("the reader of Server-Sent Events", () => {
  it("reads data over lines, types, ids that last, and skips comments", () => {
    const text = ": hello\nid: 7\ndata: a\ndata:b\n\nevent: error\ndata: {}\n\n:beat\n\nid: 8\n\n";
    expect(parse([encode(`${text}data: c\n\n`)])).toEqual([
      { type: "message", data: "a\nb", id: "7" },
      { type: "error", data: "{}", id: "7" },
      { type: "message", data: "c", id: "8" },
    ]);
  });

  it("does not give an event that has not ended", () => {
    expect(parse([encode("data: a\n\ndata: b\n")])).toHaveLength(1);
  });

  it("gives the same however the bytes are cut and the lines end", () => {
    const line = fc
      .string({ unit: "grapheme", maxLength: 20 })
      .map((s) => s.replace(/[\r\n]/g, ""));
    const events = fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n", "\r")), { maxLength: 8 });
    fc.assert(
      fc.property(events, fc.array(fc.nat(), { maxLength: 40 }), (all, places) => {
        const text = all.map(([data, end]) => `: c${end}data: 😀${data}${end}${end}`).join("");
        const got = parse(cut(encode(text), places)).map((event) => event.data);
        expect(got).toEqual(all.map(([data]) => `😀${data}`));
      }),
    );
  });

  it("ends the reading of an event without end", () => {
    const parser = new SseParser(1000);
    const push = () => {
      for (let i = 0; i < 20; i++) {
        parser.push(encode(`data: ${"x".repeat(60)}\n`));
      }
    };
    expect(push).toThrow(TooLarge);
    const line = new SseParser(1000);
    expect(() => line.push(encode("x".repeat(1001)))).toThrow(TooLarge);
  });

  it("does not count comments: an idle line lives for days", () => {
    const parser = new SseParser(100);
    for (let i = 0; i < 1000; i++) {
      expect(parser.push(encode(": beat\n"))).toEqual([]);
    }
  });

  it("tells of bytes that complete nothing, and lets go of the body when told to stop", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(encode(": beat\n"));
        controller.enqueue(encode("data: a\n\n"));
      },
      cancel: () => {
        cancelled = true;
      },
    });
    const arrivals: number[] = [];
    await readSse(body, (events) => {
      arrivals.push(events.length);
      return events.length === 0;
    });
    expect(arrivals).toEqual([0, 1]);
    expect(cancelled).toBe(true);
  });
});

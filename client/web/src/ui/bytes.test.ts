import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readable, room, utf8Length } from "./bytes.ts";

describe("the size of a message", () => {
  test("is what an encoder makes of it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(utf8Length(text)).toBe(new TextEncoder().encode(text).length);
      }),
    );
  });

  test("counts a lone surrogate as its replacement", () => {
    for (const text of ["\ud83d", "a\ude00b", "\ud83d\ud83d\ude00"]) {
      expect(utf8Length(text)).toBe(new TextEncoder().encode(text).length);
    }
  });

  test("is said only near the limit", () => {
    expect(room("a".repeat(89), 100).kind).toBe("plenty");
    expect(room("a".repeat(90), 100)).toEqual({ kind: "near", bytes: 90 });
    expect(room("a".repeat(100), 100)).toEqual({ kind: "near", bytes: 100 });
    expect(room("a".repeat(101), 100)).toEqual({ kind: "over", bytes: 101 });
    expect(room("é".repeat(51), 100)).toEqual({ kind: "over", bytes: 102 });
  });

  test("reads well", () => {
    expect([readable(1), readable(900), readable(1536), readable(262144)]).toEqual([
      "1 byte",
      "900 bytes",
      "1.5 KiB",
      "256 KiB",
    ]);
    expect(readable(3 * 1024 * 1024)).toBe("3 MiB");
  });
});

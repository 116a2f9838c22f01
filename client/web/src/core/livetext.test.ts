import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LiveText } from "./livetext.ts";

describe("the text of a stream", () => {
  it("counts in code points", () => {
    const text = new LiveText();
    expect(text.add(0, 0, "a😀b")).toBe("changed");
    expect(text.length).toBe(3);
    expect(text.add(0, 3, "c")).toBe("changed");
    expect(text.text).toBe("a😀bc");
  });

  it("drops what it has and takes what is new of a delta", () => {
    const text = new LiveText();
    text.add(0, 0, "a😀b");
    expect(text.add(0, 1, "😀b🎉c")).toBe("changed");
    expect(text.text).toBe("a😀b🎉c");
    expect(text.add(0, 0, "a😀")).toBe("same");
  });

  it("says that text is missing", () => {
    const text = new LiveText();
    text.add(0, 0, "😀");
    expect(text.add(0, 2, "b")).toBe("gap");
    expect(text.text).toBe("😀");
  });

  it("cuts on a higher revision and ignores a lower one", () => {
    const text = new LiveText();
    text.reset(0, "😀one😀two");
    expect(text.add(1, 4, "🎉three")).toBe("changed");
    expect(text.text).toBe("😀one🎉three");
    expect(text.add(0, 8, "late")).toBe("same");
    expect(text.add(1, 10, "!")).toBe("changed");
    expect(text.text).toBe("😀one🎉three!");
  });

  it("is what an array of code points would be, whatever comes", () => {
    const step = fc.record({
      text: fc.string({ unit: "binary", maxLength: 12 }),
      replace: fc.boolean(),
      place: fc.nat(60),
      again: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const text = new LiveText();
        let points: string[] = [];
        let revision = 0;
        for (const { text: more, replace, place, again } of steps) {
          let at = points.length;
          if (replace) {
            at = Math.min(place, points.length);
            revision += 1;
          }
          points = [...points.slice(0, at), ...more];
          expect(text.add(revision, at, more)).not.toBe("gap");
          if (again) {
            expect(text.add(revision, at, more)).toBe("same");
          }
          expect(text.text).toBe(points.join(""));
          expect(text.length).toBe(points.length);
        }
      }),
    );
  });

  it("takes a hundred thousand deltas in a moment", () => {
    const text = new LiveText();
    const begin = performance.now();
    for (let i = 0; i < 100_000; i++) {
      text.add(0, i * 3, "a😀b");
    }
    expect(text.length).toBe(300_000);
    expect(performance.now() - begin).toBeLessThan(5_000);
  });
});

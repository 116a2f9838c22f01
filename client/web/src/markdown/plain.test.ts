import { describe, expect, it } from "vitest";
import { plain, Reader } from "./plain.ts";
import { ANSWER } from "./sample.ts";

describe("text that is read out", () => {
  it("comes in whole sentences and blocks", () => {
    const reader = new Reader();
    expect(reader.next("This is **one", true)).toBe("");
    expect(reader.next("This is **one** sentence. And an", true)).toBe("This is one sentence.");
    expect(reader.next("This is **one** sentence. And another", true)).toBe("");
    const text = "This is **one** sentence. And another one\n\n- item\n";
    expect(reader.next(text, true)).toBe("And another one");
    expect(reader.next(text, false)).toBe("item");
    expect(reader.next(text, false)).toBe("");
  });

  it("does not end a sentence at a number's point", () => {
    expect(plain("It costs 3.14 euros, e.g", true)).toBe("");
  });

  it("says that there is code, and neither its text nor marks", () => {
    expect(
      plain("See:\n\n```js\nlet x;\n```\n\n| a | b |\n|---|---|\n| `1` | [l](http://x) |\n"),
    ).toBe("See:\nCode.\na, b\n1, l");
  });

  it("says all in the end, however it came", () => {
    const whole = plain(ANSWER).replace(/\s+/g, " ");
    for (const step of [1, 7, 50]) {
      const reader = new Reader();
      const said: string[] = [];
      for (let end = 0; end < ANSWER.length; end += step) {
        said.push(reader.next(ANSWER.slice(0, end), true));
      }
      said.push(reader.next(ANSWER, false));
      expect(
        said
          .join(" ")
          .replace(/\s+/g, " ")
          .trim()
          .replace(/\[link\]\[ref\]/, "link"),
      ).toBe(whole);
    }
  });
});

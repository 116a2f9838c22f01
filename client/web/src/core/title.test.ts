import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { titleOf } from "./title.ts";

describe("the title of a new chat", () => {
  it("is its first line that says something, without Markdown's marks", () => {
    expect(titleOf("What is a lease?\nAnd a turn?")).toBe("What is a lease?");
    expect(titleOf("\n\n ---\n## Plan  for\tMonday")).toBe("Plan for Monday");
    expect(titleOf("```py\nx()\n```")).toBe("x()");
    expect(titleOf("👋 ☂")).toBe("");
  });

  it("is cut at a word's end, or where one word is too long", () => {
    const words = "one two three four five six seven eight nine ten eleven twelve thirteen";
    expect(titleOf(words)).toBe("one two three four five six seven eight nine ten eleven…");
    expect([...titleOf("𝒙".repeat(100))]).toHaveLength(60);
  });

  it("is never more than the sidecar takes, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        const title = titleOf(text);
        expect([...title].length).toBeLessThanOrEqual(60);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
        expect(title).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u);
      }),
    );
  });
});

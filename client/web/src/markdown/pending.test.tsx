import { render } from "preact";
import { act } from "preact/test-utils";
import { describe, expect, it, vi } from "vitest";
import { Markdown } from "./Markdown.tsx";
import { closePending } from "./pending.ts";
import { ANSWER } from "./sample.ts";

vi.setConfig({ testTimeout: 120_000 });

/** What is on screen as a string that only grows when the page only grows: tags that open, and text. */
function seen(node: Node): string {
  if (node.nodeType === 3) return node.textContent ?? "";
  if (!(node instanceof HTMLElement)) return "";
  const name = node.tagName.toLowerCase();
  if (name === "figcaption") return "";
  if (name === "img") return node.getAttribute("alt") ?? "";
  const inner = [...node.childNodes].map(seen).join("");
  if (node.classList.contains("md-group")) return inner;
  // Cells that a row does not have yet.
  if (name === "td" && inner === "") return "";
  if (node.classList.contains("md-pending") || name === "a") return inner;
  if (node.classList.contains("md-part")) return inner;
  return `<${name}>${inner}`;
}

function frames(text: string, step = 1): string[] {
  const root = document.createElement("div");
  const shown: string[] = [];
  const show = (part: string, streaming: boolean) => {
    act(() => render(<Markdown text={part} streaming={streaming} />, root));
    shown.push(seen(root).replace(/\s+/g, " ").trim());
  };
  for (let end = 1; end <= text.length; end += step) show(text.slice(0, end), true);
  show(text, false);
  render(null, root);
  return shown;
}

function expectOnlyGrowth(text: string, step = 1): void {
  const shown = frames(text, step);
  const last = shown.at(-1) ?? "";
  for (const frame of shown) {
    if (!last.startsWith(frame)) expect(`${last.slice(0, frame.length)}`, text).toBe(frame);
  }
}

describe("an unfinished end", () => {
  it.each([
    ["**bol", "**bol**"],
    ["**bold*", "**bold**"],
    ["a **b _c", "a **b _c_**"],
    ["`co", "`co`"],
    ["see [lab", "see lab"],
    ["see [label](http://exa", "see [label](pending:)"],
    ["see [label]", "see label"],
    ["note [1]", "note [1]"],
    ["2 * 3", "2 * 3"],
    ["snake_case", "snake_case"],
    ["Intro:\n-", "Intro:"],
    ["Intro:\n- a", "Intro:\n- a"],
    ["x ~~ab", "x ~~ab~~"],
    ["about ~5", "about ~5"],
    ["text\n``", "text"],
    ["text\n```py", "text\n```"],
    ["a \\", "a"],
    ["| a | b", "| a | b\n|---|---|"],
    ["| a | b |\n|--", "| a | b |\n|---|---|"],
    ["done\n\n", "done\n\n"],
  ])("%j is shown as %j", (text, shown) => {
    expect(closePending(text).trimEnd()).toBe(shown.trimEnd());
  });

  it.each([
    "Some **bold text** and *emphasis* with `code` and ~~struck~~ words.",
    "***both*** and **bold with *nested* inside** end",
    'A [link](https://example.com/a_b_c) and [another **bold** one](https://example.com "title").',
    "**Bold [link](https://x.org) inside** and `a * b` code",
    "# Heading with **bold**\n\nText\nwith a break",
    "Intro:\n- one\n- two **bold**\n  - nested `x`\n- three",
    "1. one\n2. two\n10. ten\n",
    "- [ ] open\n- [x] done **now**\n",
    "> quoted *text*\n> goes on\n\nand out",
    "| a | b |\n|---|:-:|\n| 1 | **2** |\n| 3 | `4` |\n\nafter",
    "```js\nlet a = `x`;\n```\n\nafter",
    "Text before\n```\ncode\n\nmore\n```\nafter",
    "- item\n  ```sh\n  ls **\n  ```\n- next",
    "An image ![alt text](/files/a.png) here",
    "See <https://example.com/x> and https://example.com/y?z=1.",
    "AT&T &amp; &copy; 5 < 6 > 4 \\* not \\_ these",
    "Snake_case __init__ and 2 * 3 * 4 = 24",
    "``code with ` tick`` end",
    "a\n\n---\n\nb",
    "Line one\nline two **bold\nover lines** end",
  ])("only grows: %j", (text) => expectOnlyGrowth(text));

  it("only grows in a whole answer", () => {
    // Save a link whose definition comes later: until then it is not known to be one.
    expectOnlyGrowth(ANSWER.replace("[link][ref]", "link"));
  });
});

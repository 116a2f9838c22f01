// biome-ignore-all lint/security/noSecrets: hostile texts look random, as secrets do
import axe from "axe-core";
import fc from "fast-check";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Markdown } from "./Markdown.tsx";
import { ANSWER, PIECES } from "./sample.ts";

vi.setConfig({ testTimeout: 120_000 });

let root: HTMLElement;
beforeEach(() => {
  root = document.createElement("main");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  root.remove();
});

function show(text: string, streaming = false): HTMLElement {
  act(() => render(<Markdown text={text} streaming={streaming} />, root));
  return root;
}

const ALLOWED = new Set(
  (
    "a blockquote br button code del div em figcaption figure h2 h3 h4 h5 h6 hr img input li ol p " +
    "pre section span strong table tbody td th thead tr ul"
  ).split(" "),
);
const ATTRIBUTES = new Set(
  (
    "alt aria-label checked class dir disabled href loading rel role scope src start tabindex " +
    "target title type"
  ).split(" "),
);

/** Nothing is there that the renderer does not make, and nothing leads where it must not. */
function expectHarmless(text: string): void {
  for (const element of root.querySelectorAll("*")) {
    expect(ALLOWED, text).toContain(element.tagName.toLowerCase());
    for (const { name } of element.attributes) expect(ATTRIBUTES, text).toContain(name);
  }
  for (const anchor of root.querySelectorAll("a")) {
    expect(anchor.getAttribute("href"), text).toMatch(/^(?:https?:\/\/|mailto:|\/(?![/\\]))/);
    expect(anchor.getAttribute("rel")).toBe("noopener noreferrer nofollow");
    expect(anchor.getAttribute("target")).toBe("_blank");
  }
  for (const image of root.querySelectorAll("img")) {
    expect(image.getAttribute("src"), text).toMatch(
      /^(?:\/(?![/\\])|data:image\/(?:png|jpeg|gif|webp|avif);)/,
    );
    expect(image.hasAttribute("alt")).toBe(true);
  }
}

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "text <img src=x onerror=alert(1)> text",
  "<svg/onload=alert(1)>",
  "<iframe src=javascript:alert(1)>",
  "<a href='javascript:alert(1)'>x</a>",
  "<!-- <script> --> <b>x</b>",
  "<style>*{display:none}</style>",
  "<div style='position:fixed'>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x]( javascript:alert(1))",
  "[x](<java\tscript:alert(1)>)",
  "[x](<java script:alert(1)>)",
  "[x](java&#10;script:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](&#x6A;avascript:alert(1))",
  "[x](javascript&colon;alert(1))",
  "[x](\u0001javascript:alert(1))",
  "[x](\u00a0javascript:alert(1))",
  "[x](vbscript:msgbox)",
  "[x](data:text/html,<script>alert(1)</script>)",
  "[x](data:text/html;base64,PHNjcmlwdD4=)",
  "[x](file:///etc/passwd)",
  "[x](blob:https://a/b)",
  "[x](//evil.example)",
  "[x](/\\evil.example)",
  "[x](/\t/evil.example)",
  "[x](https://google.com@evil.example)",
  "<javascript:alert(1)>",
  "<data:text/html,x>",
  "[x][r]\n\n[r]: javascript:alert(1)",
  "[x][r]\n\n[r]: <data:text/html,x> 'y'",
  "![x](javascript:alert(1))",
  "![x](data:image/svg+xml;base64,PHN2Zz4=)",
  "![x](data:text/html;base64,AAAA)",
  "![x](https://tracker.example/pixel.png)",
  "![x](//tracker.example/pixel.png)",
  "![x](/\\tracker.example/pixel.png)",
  "![x](http:tracker.example)",
  '!["onerror=alert(1)](/a.png "onload=alert(1)")',
  '[x](https://a.example/"onmouseover=alert(1))',
  '```js" onload=alert(1)\ncode\n```',
  "```<script>\n</code></pre><script>alert(1)</script>\n```",
  "| <script> | <b> |\n|--|--|\n| <img onerror=x> | [x](javascript:y) |",
  "\u202egnp.exe \u2066x\u2069 \u200b\u200d\ufeff",
  "constructor __proto__ [x](__proto__) [constructor] [__proto__][toString]",
  "&lt;script&gt;alert(1)&lt;/script&gt; &constructor; &#0; &#xD800; &#1114112;",
];

describe("hostile Markdown", () => {
  it.each(HOSTILE)("does nothing: %j", (text) => {
    show(text);
    expectHarmless(text);
    for (let end = 1; end <= text.length; end += 1) {
      show(text.slice(0, end), true);
      expectHarmless(text.slice(0, end));
    }
  });

  it("does nothing in any mixture", () => {
    const any = fc.array(fc.constantFrom(...PIECES, ...HOSTILE), { maxLength: 12 });
    fc.assert(
      fc.property(any, fc.boolean(), (pieces, streaming) => {
        show(pieces.join(""), streaming);
        expectHarmless(pieces.join(""));
      }),
      { numRuns: 200 },
    );
  });

  it("keeps the text of what it refuses", () => {
    expect(show("[press](javascript:alert(1))").textContent).toBe("press");
    expect(show("![chart](data:text/html,x)").textContent).toBe("chart");
    expect(show("<script>alert(1)</script>").textContent).toBe("<script>alert(1)</script>");
    expect(show("a <b>c</b> &lt;i&gt;").textContent).toBe("a <b>c</b> <i>");
  });

  it("spells out controls that reorder code", () => {
    expect(show("```\na\u202eb\n```").querySelector("pre")?.textContent).toBe("a⟨U+202E⟩b\n");
    expect(show("`\u2066x`").querySelector("code")?.textContent).toBe("⟨U+2066⟩x");
    expect(show("\u202ebidi").querySelector("p")?.getAttribute("dir")).toBe("auto");
  });
});

describe("Markdown on the page", () => {
  it("has what an answer has", () => {
    show(ANSWER);
    const texts = (selector: string) =>
      [...root.querySelectorAll(selector)].map((e) => e.textContent);
    expect(root.querySelector("h1")).toBeNull();
    expect(texts("h2")).toEqual(["Deploying the service"]);
    expect(texts("th[scope=col]")).toEqual(["Name", "Value", "Note"]);
    expect(texts(".md-lang")).toEqual(["Bash", "Python"]);
    expect(root.querySelectorAll("input[type=checkbox][disabled]").length).toBe(2);
    expect(root.querySelector("input")?.getAttribute("aria-label")).toBe("the port");
    expect(root.querySelector("img")?.getAttribute("src")).toBe("/files/chart.png");
    expect(root.querySelector('a[href="https://example.com/ref"]')?.getAttribute("title")).toBe(
      "The title",
    );
    expect(root.querySelector("ol li pre")?.textContent).toBe("npm ci\n# then\nnpm run build");
  });

  it("shows an external image as a link with its text", () => {
    const anchor = show("![A chart](https://example.com/a.png)").querySelector("a");
    expect(anchor?.textContent).toBe("A chart");
    expect(anchor?.getAttribute("href")).toBe("https://example.com/a.png");
    expect(root.querySelector("img")).toBeNull();
  });

  it("leaves elements of finished blocks alone while more arrives", () => {
    const text = ANSWER + ANSWER;
    show(text.slice(0, 1), true);
    let before: Element[] = [];
    for (let end = 2; end < text.length; end += 7) {
      const now = [...show(text.slice(0, end), true).querySelectorAll(".md-group > *")];
      before.slice(0, -1).forEach((element, index) => {
        expect(now[index]).toBe(element);
      });
      before = now;
    }
    const last = [...show(text).querySelectorAll(".md-group > *")];
    before.forEach((element, index) => {
      expect(last[index]).toBe(element);
    });
  });

  it("has nothing serious for axe", async () => {
    show(ANSWER);
    const { violations } = await axe.run(root, { rules: { "color-contrast": { enabled: false } } });
    const serious = violations.filter(
      ({ impact }) => impact === "serious" || impact === "critical",
    );
    expect(serious.map(({ id }) => id)).toEqual([]);
  });
});

describe("hostile sizes", () => {
  const many = 100_000;
  it.each([
    ["quotes in quotes", "> ".repeat(10_000)],
    ["lists in lists", `${"- ".repeat(3)}${"1. - ".repeat(5_000)}x`],
    ["indented lists", Array.from({ length: 300 }, (_, at) => `${"  ".repeat(at)}- x`).join("\n")],
    ["lazy quotes", `${"> ".repeat(40)}a\nb\n`.repeat(200)],
    ["brackets", "[".repeat(many)],
    ["closed brackets", "[".repeat(many / 2) + "]".repeat(many / 2)],
    ["images", "![".repeat(many / 2)],
    ["links", "[a](".repeat(many / 4)],
    ["stars", "*".repeat(many)],
    ["stars and letters", "*a".repeat(many / 2)],
    ["nested emphasis", "*a _b ".repeat(5_000) + "_ *".repeat(5_000)],
    ["backticks", "`".repeat(many)],
    ["backticks in text", `x ${"`".repeat(many)}`],
    ["runs of backticks", Array.from({ length: 400 }, (_, n) => "`".repeat(n + 1)).join(" ")],
    ["one letter", "a".repeat(many)],
    ["one long line", "word ".repeat(200_000)],
    ["spaces", `a${" ".repeat(many)}b`],
    ["dots", "a.".repeat(many / 2)],
    ["tags", "<a ".repeat(many / 3)],
    ["comments", "x<!--".repeat(many / 5)],
    ["pipes", `${"|".repeat(many)}\n${"|-".repeat(many / 2)}`],
    ["a wide table", `${"|a".repeat(2_000)}\n${"|-".repeat(2_000)}\n${"|b".repeat(2_000)}`],
    ["dashes", `a\n${"-".repeat(many)}`],
    ["zero-width", "\u200b".repeat(many)],
    ["reordering", "\u202e".repeat(many)],
    ["definitions", Array.from({ length: 3_000 }, (_, n) => `[${n}]: /x\n`).join("")],
    ["ampersands", "&amp".repeat(many / 4)],
    ["backslashes", "\\".repeat(many)],
    ["lines", "a\n".repeat(many / 10)],
    ["returns", "\r".repeat(many)],
  ])("do not hold the page up: %s", (_name, text) => {
    const before = process.cpuUsage();
    show(text, true);
    show(`${text} x`, true);
    show(`${text} x`);
    expectHarmless("");
    const { user, system } = process.cpuUsage(before);
    // Mostly the DOM of the test. A square would take minutes.
    expect((user + system) / 1000).toBeLessThan(10_000);
  });
});

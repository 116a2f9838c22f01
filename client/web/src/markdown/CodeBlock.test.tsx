import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pieces } from "./highlight.ts";
import { Markdown } from "./Markdown.tsx";

let root: HTMLElement;
beforeEach(() => {
  root = document.createElement("main");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  root.remove();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function show(text: string, streaming = false): void {
  act(() => render(<Markdown text={text} streaming={streaming} />, root));
}

const CODE = "```python\ndef f():\n    return 1\n```\n";
const coloured = () => root.querySelector(".md-keyword");
const pre = () => root.querySelector("pre")?.textContent;

describe("a block of code", () => {
  it("is coloured once it is whole, with the same text", async () => {
    show("```python\ndef f():\n    return 1\n", true);
    expect(pre()).toBe("def f():\n    return 1\n");
    show(CODE);
    await vi.waitFor(() => expect(coloured()?.textContent).toBe("def"), 20_000);
    expect(pre()).toBe("def f():\n    return 1\n");
  });

  it("stays plain in a language that is not known, and when it is long", async () => {
    show(
      `\`\`\`klingon\ndef f()\n\`\`\`\n\n\`\`\`python\n${"def f(): pass\n".repeat(5_000)}\`\`\`\n\n${CODE}`,
    );
    await vi.waitFor(() => expect(coloured()).not.toBeNull(), 20_000);
    expect(root.querySelectorAll(".md-keyword").length).toBe(2);
  });

  it("keeps all of its text where it is coloured in pieces", async () => {
    const code = "def f():\n    return '⟨'\n\n".repeat(800);
    show(`\`\`\`py\n${code}\`\`\`\n`);
    const last = () => root.querySelector("code")?.lastChild?.textContent;
    await vi.waitFor(() => expect([coloured() !== null, last()]).toEqual([true, ""]), 20_000);
    expect(pre()).toBe(code);
    expect(pieces(code).join("")).toBe(code);
    expect(pieces("x".repeat(40_000)).join("").length).toBe(40_000);
  });

  it("does not show half of its last line", () => {
    show("```js\nlet a\n``", true);
    expect(pre()).toBe("let a\n");
    show("```js\nlet a\n``x", true);
    expect(pre()).toBe("let a\n``x");
    show("```js\nlet a\n```", false);
    expect(pre()).toBe("let a\n");
  });

  it("can be reached and scrolled by keyboard, and has a name", () => {
    show(CODE);
    const region = root.querySelector(".md-scroll");
    expect(region?.getAttribute("tabindex")).toBe("0");
    expect(region?.getAttribute("aria-label")).toBe("Code, Python");
  });

  it("is copied, and says so", async () => {
    const writeText = vi.fn(async () => undefined);
    vi.stubGlobal("navigator", { clipboard: { writeText } });
    show(CODE);
    const button = root.querySelector("button");
    act(() => button?.click());
    await vi.waitFor(() => expect(button?.textContent).toBe("Copied"));
    expect(writeText).toHaveBeenCalledWith("def f():\n    return 1");
    expect(root.querySelector("[role=status]")?.textContent).toBe("Copied");
  });

  it("is copied the old way where the clipboard is not to be had", async () => {
    vi.stubGlobal("navigator", {});
    let selected = "";
    const execCommand = vi.fn(() => {
      selected = document.querySelector("textarea")?.value ?? "";
      return true;
    });
    Object.assign(document, { execCommand });
    show(CODE);
    const button = root.querySelector("button");
    act(() => button?.click());
    await vi.waitFor(() => expect(button?.textContent).toBe("Copied"));
    expect(selected).toBe("def f():\n    return 1");
    expect(document.querySelector("textarea")).toBeNull();
  });
});

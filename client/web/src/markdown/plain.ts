/** Markdown as it is read out. */
import type { Token, Tokens } from "marked";
import { type Block, BlockStream } from "./blocks.ts";
import { inlineText } from "./Inline.tsx";

/** The end of a sentence, with what may close after it; a number's point does not end one. */
const SENTENCE = /(?:[.!?…](?<!\b\d{1,9}\.)["'”’)\]]*(?=\s)|[。！？])/gu;

function spoken(token: Token): string {
  switch (token.type) {
    case "code":
      return "Code.";
    case "hr":
      return "";
    case "list":
      return (token as Tokens.List).items.map((item) => all(item.tokens)).join("\n");
    case "blockquote":
      return all((token as Tokens.Blockquote).tokens);
    case "table": {
      const { header, rows } = token as Tokens.Table;
      const row = (cells: readonly Tokens.TableCell[]) =>
        cells.map((cell) => inlineText(cell.tokens)).join(", ");
      return [header, ...rows].map(row).join("\n");
    }
    default:
      return inlineText([token]);
  }
}

function all(tokens: readonly Token[]): string {
  const texts = tokens.map((token) => (token.type === "checkbox" ? "" : spoken(token)));
  return texts.filter((text) => text.trim() !== "").join("\n");
}

function blockText({ token }: Block): string {
  return token.type === "fenced" ? "Code." : spoken(token as Token).trim();
}

/** Characters of a text up to the end of its last whole sentence. */
function sentences(text: string): number {
  let end = 0;
  for (const found of text.matchAll(SENTENCE)) end = found.index + found[0].length;
  return end;
}

/**
 * Gives growing Markdown in calm portions for a live region: whole blocks, and whole sentences of
 * the last one. Text of code blocks is not read, only that there is one.
 */
export class Reader {
  readonly #stream = new BlockStream();
  #read = 0;
  /** Characters read of the first block that is not read whole. */
  #within = 0;

  /**
   * What is to be read since the last call; often nothing.
   * @param text All of the text; begins with that of the call before.
   * @param streaming More of it is to come.
   */
  next(text: string, streaming: boolean): string {
    const blocks = this.#stream.update(text, streaming);
    const portion: string[] = [];
    for (; this.#read < blocks.length; this.#read += 1) {
      const block = blocks[this.#read];
      if (!block) break;
      const open = streaming && (!block.done || this.#read === blocks.length - 1);
      if (open && block.token.type !== "paragraph") break;
      const said = blockText(block);
      const to = open ? sentences(said) : said.length;
      if (to > this.#within) portion.push(said.slice(this.#within, to).trim());
      if (open) {
        this.#within = Math.max(to, this.#within);
        break;
      }
      this.#within = 0;
    }
    return portion.filter((some) => some !== "").join("\n");
  }
}

/** All of a text that is ready to be read. */
export function plain(text: string, streaming = false): string {
  return new Reader().next(text, streaming);
}

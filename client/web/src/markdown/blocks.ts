/** Blocks of growing Markdown: what a delta does not reach keeps its identity, so its DOM is untouched. */
import type { Token } from "marked";
import {
  type Definition,
  type Definitions,
  type InlineCache,
  type Lexed,
  lex,
  lexRunning,
} from "./lexer.ts";
import { closePending } from "./pending.ts";
import { type Segment, Segmenter } from "./segments.ts";

/** A fenced code block at the top level; grows by its last part alone. */
export interface FencedCode {
  readonly type: "fenced";
  readonly lang: string;
  readonly parts: readonly string[];
}

export type BlockToken = Token | FencedCode;

export interface Block {
  /** Stable while the block grows: where it starts in the text. */
  readonly key: number;
  readonly token: BlockToken;
  /** Nothing can be added to it any more. */
  readonly done: boolean;
}

interface Settled {
  readonly segment: Segment;
  /** Where its blocks are among all. */
  readonly from: number;
  readonly asked: ReadonlySet<string>;
}

/** More link definitions than these are not followed. */
const MOST_DEFINITIONS = 1000;
const NONE: Definitions = new Map();

function language(info: string): string {
  return info.split(/\s/, 1)[0] ?? "";
}

function fenced(segment: Segment, parts: readonly string[], done: boolean): Block {
  const lang = language(segment.fence?.info ?? "");
  return { key: segment.start, token: { type: "fenced", lang, parts }, done };
}

function blocksOf(tokens: readonly Token[], segment: Segment, done: boolean): Block[] {
  const blocks: Block[] = [];
  let at = segment.start - segment.prefix.length;
  for (const token of tokens) {
    if (token.type !== "space" && token.type !== "def") {
      blocks.push({ key: Math.max(at, segment.start), token, done: true });
    }
    at += token.raw.length;
  }
  const last = blocks.at(-1);
  if (last && !done) blocks[blocks.length - 1] = { ...last, done: false };
  return blocks;
}

function sameToken(a: BlockToken, b: BlockToken): boolean {
  return a.type === b.type && "raw" in a && "raw" in b && a.raw === b.raw;
}

function meet(some: ReadonlySet<string>, others: { has(label: string): boolean }): boolean {
  for (const label of some) if (others.has(label)) return true;
  return false;
}

export class BlockStream {
  #source = "";
  #streaming = false;
  #segmenter = new Segmenter();
  #settled: Settled[] = [];
  /** Blocks of all settled segments. */
  #blocks: Block[] = [];
  #definitions = new Map<string, Definition>();
  /** Definitions of the open end; they count only when the text is whole. */
  #last: Definitions = NONE;
  #tail: readonly Block[] = [];
  #cache: { tokens: InlineCache } = { tokens: new Map() };
  #all: readonly Block[] = [];

  /**
   * The blocks of a text: most cheaply of one that begins with the text of the call before.
   * @param streaming More is to come: an unfinished end is shown as what it most likely becomes.
   */
  update(text: string, streaming: boolean): readonly Block[] {
    if (text === this.#source && streaming === this.#streaming) return this.#all;
    // Equality compares many characters at once; startsWith does not.
    if (text.slice(0, this.#source.length) !== this.#source) this.#reset();
    this.#segmenter.feed(text.slice(this.#source.length));
    this.#source = text;
    this.#streaming = streaming;
    const fresh = new Set<string>();
    const settledBefore = this.#settled.length;
    for (const segment of this.#segmenter.ended.splice(0)) this.#settle(segment, fresh);
    const lexed = this.#lexTail();
    this.#takeLast(streaming ? NONE : lexed.defined, fresh);
    this.#lexAgain(fresh, settledBefore);
    this.#all = this.#blocks.concat(this.#tail);
    return this.#all;
  }

  #reset(): void {
    this.#source = "";
    this.#segmenter = new Segmenter();
    this.#settled = [];
    this.#blocks = [];
    this.#definitions = new Map();
    this.#last = NONE;
    this.#tail = [];
    this.#cache = { tokens: new Map() };
  }

  #settle(segment: Segment, fresh: Set<string>): void {
    const from = this.#blocks.length;
    const before = new Map(this.#tail.map((block) => [block.key, block]));
    const { blocks, lexed } = this.#lexSegment(segment, this.#definitions);
    for (const block of blocks) {
      const old = before.get(block.key);
      const kept = old?.done && lexed?.asked.size === 0 && sameToken(old.token, block.token);
      this.#blocks.push(kept ? old : block);
    }
    this.#cache.tokens.clear();
    for (const [label, definition] of lexed?.defined ?? NONE) {
      if (this.#definitions.has(label) || this.#definitions.size >= MOST_DEFINITIONS) continue;
      this.#definitions.set(label, definition);
      fresh.add(label);
    }
    if (lexed && lexed.asked.size > 0) this.#settled.push({ segment, from, asked: lexed.asked });
  }

  #lexSegment(segment: Segment, known: Definitions): { blocks: Block[]; lexed: Lexed | null } {
    const { kind, parts } = segment;
    if (kind === "fence") return { blocks: [fenced(segment, parts, true)], lexed: null };
    const text = parts.join("");
    if (kind === "flow") {
      const lexed = lex(segment.prefix + text, segment.start, known, this.#cache);
      return { blocks: blocksOf(lexed.tokens, segment, true), lexed };
    }
    return { blocks: this.#rest(segment, text, true), lexed: null };
  }

  /** The rest of a block that was too long. */
  #rest(segment: Segment, text: string, done: boolean): Block[] {
    if (text.trim() === "") return [];
    const token: Token =
      segment.kind === "html"
        ? { type: "html", raw: text, text, block: true, pre: false }
        : lexRunning(text, this.#cache);
    return [{ key: segment.start, token, done }];
  }

  /** Lexes the end that may still grow: a few kilobytes at most. */
  #lexTail(): Lexed {
    const { open, line } = this.#segmenter;
    const nothing = { tokens: [], asked: new Set<string>(), defined: NONE };
    const done = !this.#streaming;
    if (open.kind === "fence") {
      this.#tail = [this.#openFence(open, line)];
      return nothing;
    }
    const text = open.parts.join("") + line;
    if (open.kind !== "flow") {
      this.#tail = this.#rest(open, text, done);
      return nothing;
    }
    const shown = this.#streaming && !this.#segmenter.inHtml ? closePending(text) : text;
    const lexed = lex(open.prefix + shown, open.start, this.#definitions, this.#cache);
    const before = new Map(this.#tail.map((block) => [block.key, block]));
    this.#tail = blocksOf(lexed.tokens, open, done).map((block) => {
      const old = before.get(block.key);
      const kept = old?.done && block.done && lexed.asked.size === 0;
      return kept && sameToken(old.token, block.token) ? old : block;
    });
    return lexed;
  }

  #openFence(open: Segment, line: string): Block {
    const { fence, parts } = open;
    const mark = fence?.mark ?? "```";
    const half = line.trim();
    const closing = half !== "" && half === mark.charAt(0).repeat(half.length);
    const long = this.#segmenter.inLongLine;
    // Half a closing line is not code yet; a whole one at the very end closes.
    const hide = !long && closing && (this.#streaming || half.length >= mark.length);
    const indent = long ? 0 : Math.min(fence?.indent ?? 0, line.length - line.trimStart().length);
    const last = (parts.at(-1) ?? "") + (hide ? "" : line.slice(indent));
    return fenced(open, [...parts.slice(0, -1), last], !this.#streaming);
  }

  /** Takes the definitions of the end: notes which labels now mean something else. */
  #takeLast(defined: Definitions, fresh: Set<string>): void {
    const same = (a?: Definition, b?: Definition) => a?.href === b?.href && a?.title === b?.title;
    for (const label of new Set([...this.#last.keys(), ...defined.keys()])) {
      if (!same(this.#last.get(label), defined.get(label))) fresh.add(label);
    }
    this.#last = defined;
  }

  /**
   * Lexes again the settled segments that asked for one of the labels, and those settled just now
   * that asked for a definition of the end.
   */
  #lexAgain(labels: ReadonlySet<string>, settledBefore: number): void {
    if (labels.size === 0 && this.#last.size === 0) return;
    const known = new Map([...this.#last, ...this.#definitions]);
    this.#settled = this.#settled.map((settled, index) => {
      const { asked } = settled;
      const touched = meet(asked, labels) || (index >= settledBefore && meet(asked, this.#last));
      if (!touched) return settled;
      const { blocks, lexed } = this.#lexSegment(settled.segment, known);
      blocks.forEach((block, at) => {
        this.#blocks[settled.from + at] = block;
      });
      return { ...settled, asked: lexed?.asked ?? asked };
    });
    this.#cache.tokens.clear();
  }
}

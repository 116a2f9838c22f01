/**
 * `marked`'s lexer with bounds: nesting, running text and work are limited, so hostile input ends as
 * plain text instead of a full stack or a frozen tab. All bounds count characters, not time: the
 * same text always gives the same tokens.
 */
import { Lexer, type Token, type Tokens } from "marked";

/** Quotes and lists within each other. */
const DEEPEST_BLOCK = 16;
/** Emphasis and links within each other. */
const DEEPEST_INLINE = 16;
/** Running text is lexed in pieces of at most so many characters: some patterns take their square. */
export const INLINE_PIECE = 4096;
/** Characters in a piece that may open something; with more it is not prose. */
const MOST_OPENERS = 1200;
/** In a longer word, unless it is an address, every letter may begin what is not found. */
const LONGEST_WORD = 1000;
const LONGEST_SPACE = 500;
/** Times that each character may be looked at, on account of nesting. */
const WORK_PER_CHARACTER = 64;

export interface Definition {
  readonly href: string;
  readonly title: string | undefined;
  /** Offset of the text that holds it: of two with one label, the first counts. */
  readonly at: number;
}
export type Definitions = ReadonlyMap<string, Definition>;

export interface Lexed {
  readonly tokens: readonly Token[];
  /** Labels of link definitions that the text asked for, found or not. */
  readonly asked: ReadonlySet<string>;
  /** Definitions that it holds. */
  readonly defined: Definitions;
}

class TooMuchWork extends Error {}

function plainToken(text: string): Tokens.Text {
  return { type: "text", raw: text, text, escaped: false };
}

export function plainParagraph(text: string): Tokens.Paragraph {
  return { type: "paragraph", raw: text, text, tokens: [plainToken(text)] };
}

/** Where a piece that starts at `from` ends: at a line end, a space, or anywhere. */
function pieceEnd(text: string, from: number): number {
  const limit = from + INLINE_PIECE;
  if (text.length <= limit) return text.length;
  const least = limit - INLINE_PIECE / 4;
  const line = text.lastIndexOf("\n", limit - 1) + 1;
  if (line > least) return line;
  const space = text.lastIndexOf(" ", limit - 1) + 1;
  if (space > least) return space;
  return /[\ud800-\udbff]/.test(text.charAt(limit - 1)) ? limit - 1 : limit;
}

const OPENERS = new Set([..."*_[<`~@\\"].map((char) => char.charCodeAt(0)));

/** Whether it is worth, and safe, to look for inline constructs in the text. */
function isProse(text: string): boolean {
  let openers = 0;
  let wordFrom = 0;
  let spaceFrom = 0;
  let longestWord = 0;
  let longestSpace = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (OPENERS.has(code)) openers += 1;
    if (code <= 32) {
      longestWord = Math.max(longestWord, at - wordFrom);
      wordFrom = at + 1;
    } else {
      longestSpace = Math.max(longestSpace, at - spaceFrom);
      spaceFrom = at + 1;
    }
  }
  longestWord = Math.max(longestWord, text.length - wordFrom);
  if (openers > MOST_OPENERS || longestSpace > LONGEST_SPACE) return false;
  return longestWord <= LONGEST_WORD || text.includes("://");
}

/** Inline tokens by their text; kept while a block grows, so that its finished parts cost nothing. */
export type InlineCache = Map<string, readonly Token[]>;

class BoundedLexer extends Lexer {
  #blocks = 0;
  #inlines = 0;
  #work: number;
  readonly #cache: InlineCache | null;
  readonly #used: InlineCache;

  constructor(work: number, cache: InlineCache | null, used: InlineCache) {
    super({ gfm: true, breaks: true });
    this.#work = work;
    this.#cache = cache;
    this.#used = used;
  }

  #spend(characters: number): void {
    this.#work -= characters + 1;
    if (this.#work < 0) throw new TooMuchWork();
  }

  override blockTokens(src: string, tokens: Token[] = [], lastParagraphClipped = false): never {
    this.#spend(src.length);
    if (this.#blocks >= DEEPEST_BLOCK) {
      tokens.push(plainParagraph(src));
      this.state.top = true;
      return tokens as never;
    }
    this.#blocks += 1;
    try {
      return super.blockTokens(src, tokens, lastParagraphClipped) as never;
    } finally {
      this.#blocks -= 1;
    }
  }

  override inlineTokens(src: string, tokens: Token[] = []): Token[] {
    this.#spend(src.length);
    if (this.#inlines === 0) return this.#inlinePieces(src, tokens);
    if (this.#inlines >= DEEPEST_INLINE) {
      tokens.push(plainToken(src));
      return tokens;
    }
    return this.#inlineRun(src, tokens);
  }

  #inlinePieces(src: string, tokens: Token[]): Token[] {
    let from = 0;
    do {
      const to = pieceEnd(src, from);
      const piece = src.slice(from, to);
      const known = this.#cache?.get(piece) ?? this.#used.get(piece);
      const run = known ?? (isProse(piece) ? this.#inlineRun(piece, []) : [plainToken(piece)]);
      // A definition may come that changes what is in brackets.
      if (!piece.includes("[")) this.#used.set(piece, run);
      tokens.push(...run);
      from = to;
    } while (from < src.length);
    return tokens;
  }

  #inlineRun(src: string, tokens: Token[]): Token[] {
    this.#inlines += 1;
    try {
      return super.inlineTokens(src, tokens);
    } finally {
      this.#inlines -= 1;
    }
  }
}

/** What the lexer sees as its table of links: known definitions, its own, and a note of each it asks for. */
function linkTable(
  known: Definitions,
  at: number,
  own: Map<string, Definition>,
  asked: Set<string>,
) {
  const find = (label: string | symbol) => {
    if (typeof label !== "string") return undefined;
    asked.add(label);
    const elsewhere = known.get(label);
    const here = own.get(label);
    return elsewhere && (!here || elsewhere.at < at) ? elsewhere : here;
  };
  return new Proxy(Object.create(null) as Record<string, Definition>, {
    get: (_, label) => find(label),
    getOwnPropertyDescriptor: (_, label) => {
      const value = find(label);
      return value && { value, configurable: true, enumerable: true, writable: true };
    },
    set: (_, label, value: Definition) => {
      if (typeof label === "string") own.set(label, { ...value, at });
      return true;
    },
  });
}

/**
 * Lexes whole blocks.
 * @param text Line ends are `\n`.
 * @param at Its offset in the whole.
 * @param known Definitions that the rest of the whole holds.
 * @param cache Inline tokens from a lex before, or null; replaced by those this lex used.
 */
export function lex(
  text: string,
  at: number,
  known: Definitions,
  cache: { tokens: InlineCache } | null,
): Lexed {
  const defined = new Map<string, Definition>();
  const asked = new Set<string>();
  const used: InlineCache = new Map();
  const work = WORK_PER_CHARACTER * text.length + 4096;
  const lexer = new BoundedLexer(work, cache?.tokens ?? null, used);
  lexer.tokens.links = linkTable(known, at, defined, asked) as never;
  try {
    const tokens = lexer.lex(text);
    for (const label of defined.keys()) asked.delete(label);
    if (cache) cache.tokens = used;
    return { tokens, asked, defined };
  } catch (error) {
    if (!(error instanceof TooMuchWork)) throw error;
    return { tokens: [plainParagraph(text)], asked: new Set(), defined: new Map() };
  }
}

/** Lexes running text by itself, as a paragraph; `cache` as of `lex`. */
export function lexRunning(text: string, cache: { tokens: InlineCache }): Tokens.Paragraph {
  const used: InlineCache = new Map();
  const lexer = new BoundedLexer(WORK_PER_CHARACTER * text.length + 4096, cache.tokens, used);
  try {
    const tokens = lexer.inlineTokens(text);
    cache.tokens = used;
    return { type: "paragraph", raw: text, text, tokens };
  } catch (error) {
    if (!(error instanceof TooMuchWork)) throw error;
    return plainParagraph(text);
  }
}

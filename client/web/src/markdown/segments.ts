/**
 * Cuts growing Markdown into segments: stretches of whole top-level blocks, each of which can be
 * lexed by itself. Where a segment ends depends on the text alone, never on how it arrived, and a
 * segment that ended is never touched again; so a delta costs its own length.
 */
import {
  bulletOf,
  closesFence,
  type Fence,
  fenceOf,
  htmlEnd,
  indentOf,
  isBlank,
  isDefinition,
  isDelimiter,
  isHeading,
  isQuote,
  isRule,
} from "./lines.ts";

/** Characters from which a segment ends at the next line that allows it. */
export const SOFT = 8 * 1024;
/** Characters from which it ends at any line. */
const HARD = 2 * SOFT;
/** A longer line is cut: its rest is plain running text. */
export const LONGEST_LINE = SOFT;

/**
 * `flow`: blocks for the lexer. `fence`: one fenced code block, `text` is its code. `text`, `html`:
 * the rest of a paragraph, of an HTML block, that was too long for one segment.
 */
export type SegmentKind = "flow" | "fence" | "text" | "html";

export interface Segment {
  readonly kind: SegmentKind;
  /** Offset in the text, line ends counted as one. */
  readonly start: number;
  /** Characters of `text` in pieces, the last of which may grow. */
  readonly parts: string[];
  /** Lines to lex before the text: the head of a table that was cut. */
  readonly prefix: string;
  readonly fence: Fence | null;
  length: number;
  /** Of a fence: its closing line is there. */
  closed: boolean;
}

/** Where the scanner stands within the segment that grows. */
interface Place {
  afterBlank: boolean;
  inParagraph: boolean;
  list: { type: string; indent: number } | null;
  html: RegExp | "blank" | null;
  /** Head and delimiter row of the table the last lines belong to, if they do. */
  table: string;
  previous: string;
}

const PART = 8 * 1024;

function segment(
  kind: SegmentKind,
  start: number,
  prefix = "",
  fence: Fence | null = null,
): Segment {
  return { kind, start, parts: [""], prefix, fence, length: 0, closed: false };
}

function somewhere(): Place {
  return {
    afterBlank: false,
    inParagraph: false,
    list: null,
    html: null,
    table: "",
    previous: "",
  };
}

function append(to: Segment, text: string): void {
  const last = to.parts.length - 1;
  const grown = (to.parts[last] ?? "") + text;
  to.parts[last] = grown;
  to.length += text.length;
  if (grown.length >= PART && grown.endsWith("\n")) to.parts.push("");
}

export class Segmenter {
  /** Segments that ended, in order; the taker empties it. */
  readonly ended: Segment[] = [];
  #open = segment("flow", 0);
  #place = somewhere();
  /** The line that has no end yet. */
  #line = "";
  #afterReturn = false;
  /** Within a line that was cut. */
  #inLongLine = false;

  /** The segment that still grows, without the line that has no end yet. */
  get open(): Segment {
    return this.#open;
  }

  get line(): string {
    return this.#line;
  }

  /** Whether `line` goes on from one that was cut. */
  get inLongLine(): boolean {
    return this.#inLongLine;
  }

  /** Whether the line is part of a block of raw HTML. */
  get inHtml(): boolean {
    return this.#place.html !== null;
  }

  /** Takes the text that follows. */
  feed(delta: string): void {
    let text = delta;
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    if (delta !== "") this.#afterReturn = delta.endsWith("\r");
    if (text.includes("\r")) text = text.replace(/\r\n?/g, "\n");
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      this.#line += text.slice(from, end);
      this.#cutLongLine();
      const line = this.#line;
      this.#line = "";
      this.#take(line, "\n");
      this.#inLongLine = false;
      from = end + 1;
    }
    this.#line += text.slice(from);
    this.#cutLongLine();
  }

  #cutLongLine(): void {
    if (this.#line.length <= LONGEST_LINE) return;
    let from = 0;
    const line = this.#line;
    while (line.length - from > LONGEST_LINE) {
      const space = line.lastIndexOf(" ", from + LONGEST_LINE - 1) + 1;
      let to = space > from + LONGEST_LINE - 200 ? space : from + LONGEST_LINE;
      if (/[\ud800-\udbff]/.test(line.charAt(to - 1))) to -= 1;
      this.#take(line.slice(from, to), "");
      this.#inLongLine = true;
      from = to;
    }
    this.#line = line.slice(from);
  }

  #take(line: string, end: string): void {
    if (this.#open.kind === "fence") {
      this.#takeCode(line, end);
      return;
    }
    if (this.#inLongLine) this.#takeRest(line, end);
    else this.#takeLine(line, end);
    // The rest of a long line goes on as running text.
    if (end === "") this.#next(this.#place.html ? "html" : "text");
  }

  #takeRest(line: string, end: string): void {
    append(this.#open, line + end);
    const { html, previous } = this.#place;
    const over = html !== null && html !== "blank" && html.test(previous.slice(-16) + line);
    if (over || (html === null && end !== "")) this.#place = { ...somewhere(), afterBlank: true };
    this.#place.previous = line;
    if (end !== "") this.#next(this.#place.html ? "html" : "flow");
  }

  #takeCode(line: string, end: string): void {
    const { fence } = this.#open;
    if (fence && end !== "" && !this.#inLongLine && closesFence(line, fence)) {
      this.#open.closed = true;
      this.#open.length += line.length + 1;
      this.#next("flow");
      this.#place = somewhere();
      return;
    }
    let spaces = 0;
    const indent = this.#inLongLine ? 0 : (fence?.indent ?? 0);
    while (spaces < indent && line.charAt(spaces) === " ") spaces += 1;
    append(this.#open, line.slice(spaces) + end);
    this.#open.length += spaces;
  }

  /** Ends the open segment, if it has any text, and opens another. */
  #next(kind: SegmentKind, prefix = "", fence: Fence | null = null): void {
    const before = this.#open;
    if (before.length > 0) this.ended.push(before);
    this.#open = segment(kind, before.start + before.length, prefix, fence);
  }

  #takeLine(line: string, end: string): void {
    const place = this.#place;
    if (place.html) {
      this.#takeHtml(line, end, place.html);
      return;
    }
    if (isBlank(line)) {
      append(this.#open, line + end);
      place.afterBlank = true;
      place.inParagraph = false;
      place.table = "";
      return;
    }
    const indent = indentOf(line);
    const within = place.list !== null && indent >= place.list.indent;
    let cut = place.afterBlank && !within && indent < 4;
    if (!within && indent < 4) {
      const fence = end === "" ? null : fenceOf(line);
      if (fence) {
        this.#next("fence", "", fence);
        this.#open.length += line.length + 1;
        return;
      }
      cut = this.#classify(line, cut);
    } else if (!within && place.afterBlank) place.inParagraph = false;
    const { length } = this.#open;
    if (length > HARD || (length > SOFT && place.list === null)) cut = true;
    if (cut) this.#next("flow", place.table);
    append(this.#open, line + end);
    if (isDelimiter(line) && place.previous.includes("|") && place.table === "") {
      place.table = `${place.previous}\n${line}\n`;
    }
    place.afterBlank = false;
    place.previous = line;
  }

  #takeHtml(line: string, end: string, until: RegExp | "blank"): void {
    const blank = isBlank(line);
    if (until === "blank" && blank) {
      this.#place = { ...somewhere(), afterBlank: true };
    }
    if (this.#open.length > SOFT) this.#next("html");
    append(this.#open, line + end);
    if (until !== "blank" && until.test(line)) {
      // What follows is a block of its own.
      this.#place = { ...somewhere(), afterBlank: true };
    }
    if (this.#place.html === null && this.#open.kind === "html") this.#next("flow");
  }

  /** A line at the margin, not blank: what it starts or ends; returns whether a segment may end before it. */
  #classify(line: string, afterBlank: boolean): boolean {
    const place = this.#place;
    const html = htmlEnd(line, place.inParagraph || (place.list !== null && !place.afterBlank));
    if (html) {
      place.list = null;
      place.inParagraph = false;
      if (html === "blank" || !html.test(line.replace("<?", ""))) place.html = html;
      return afterBlank;
    }
    if (isRule(line) || isHeading(line)) {
      place.list = null;
      place.inParagraph = false;
      place.table = "";
      return afterBlank;
    }
    const bullet = bulletOf(line);
    if (bullet && (place.list || !place.inParagraph || bullet.interrupts)) {
      const same = place.list?.type === bullet.type;
      place.list = { type: bullet.type, indent: bullet.indent };
      place.inParagraph = false;
      place.table = "";
      return same ? this.#open.length > SOFT : afterBlank;
    }
    if (isQuote(line) || afterBlank) place.list = null;
    if (isQuote(line)) place.table = "";
    if (place.list === null) place.inParagraph ||= !isDefinition(line);
    return afterBlank;
  }
}

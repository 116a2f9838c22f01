/**
 * Shows an unfinished end of Markdown as what it most likely becomes: `**bo` is bold already, a half
 * link shows its label, a half marker shows nothing. Text on screen then only grows, it never jumps.
 */
import { isBlank, isDefinition, isDelimiter } from "./lines.ts";

/** Looks back at most so far for what is open. */
const FARTHEST = 4096;
/** The destination of a link that is not whole yet; no address that can be followed. */
export const PENDING_LINK = "pending:";
const SCHEMES = ["<https:", "<http:", "<mailto:"];
const LONGEST_LABEL = 300;

const FENCE_LINE = /^((?:[ \t]|>|[-+*][ \t]|\d{1,9}[.)][ \t])*)(`{3,}|~{3,})([^`]*)$/;
const ONLY_MARKERS =
  /^[ \t]*(?:(?:[-+*>]|\d{1,9}[.)])[ \t]*)*(?:\[[ xX]?\]?|#{1,6}|\d{1,9}|[-=_*`~|]+)?[ \t]*$/;
const MARKERS =
  /^[ \t]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+|>[ \t]?)*(?:#{1,6}[ \t]+)?(?:\[[ xX]\][ \t]+)?/;
const STARTS_BLOCK = /^[ \t>]*(?:[-+*][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t])/;

interface Opener {
  readonly mark: string;
  readonly at: number;
  count: number;
}

/** One scan of running text for what is open at its end. */
class Inline {
  readonly #text: string;
  readonly #openers: Opener[] = [];
  readonly #brackets: number[] = [];
  #at = 0;
  /** What is after it is not shown yet. */
  #end: number;
  /** Closes a code span; goes before all else. */
  #code = "";
  /** Offsets not shown: the brackets of a link that is not whole. */
  readonly #hidden = new Set<number>();
  #tail = "";

  constructor(text: string) {
    this.#text = text;
    this.#end = text.length;
  }

  closed(): string {
    while (this.#at < this.#end) this.#step();
    for (const at of this.#brackets) {
      const label = this.#text.slice(at + 1, this.#end);
      if (!this.#mayStartLink(at) || label.length > LONGEST_LABEL || /^\d*\]?$/.test(label))
        continue;
      this.#hide(at);
    }
    return this.#assemble();
  }

  #assemble(): string {
    let shown = this.#text.slice(0, this.#end);
    let closers = "";
    // An opener with nothing after it is not shown.
    for (let top = this.#openers.at(-1); top; top = this.#openers.at(-1)) {
      if (shown.slice(top.at + top.count).trim() !== "" || this.#code !== "") break;
      this.#openers.pop();
      shown = shown.slice(0, top.at);
    }
    for (const { mark, count } of this.#openers)
      closers = mark.repeat(Math.min(count, 3)) + closers;
    if (this.#hidden.size > 0) {
      shown = [...this.#runs(shown)].join("");
    }
    shown += this.#tail;
    const trimmed = this.#code === "" ? shown.trimEnd() : shown;
    return trimmed + this.#code + closers;
  }

  *#runs(shown: string): Generator<string> {
    let from = 0;
    for (const at of [...this.#hidden].sort((a, b) => a - b)) {
      yield shown.slice(from, at);
      from = at + 1;
    }
    yield shown.slice(from);
  }

  #hide(bracket: number): void {
    this.#hidden.add(bracket);
    if (this.#text.charAt(bracket - 1) === "!") this.#hidden.add(bracket - 1);
  }

  #mayStartLink(at: number): boolean {
    return !/[\p{L}\p{N}\])]/u.test(this.#text.charAt(at - 1));
  }

  #step(): void {
    const char = this.#text.charAt(this.#at);
    if (char === "\\") this.#escape();
    else if (char === "`") this.#codeSpan();
    else if (char === "*" || char === "_" || char === "~") this.#delimiter(char);
    else if (char === "[") this.#bracket();
    else if (char === "]") this.#bracketEnd();
    else if (char === "<") this.#angle();
    else if (char === "&") this.#cutIf(/^&#?\w{0,31}$/);
    else if (char === "!") this.#cutIf(/^!\[?$/);
    else this.#at += 1;
  }

  #cut(): void {
    this.#end = this.#at;
  }

  #cutIf(unfinished: RegExp): void {
    if (unfinished.test(this.#text.slice(this.#at, this.#at + 40))) this.#cut();
    else this.#at += 1;
  }

  #escape(): void {
    if (this.#at + 1 >= this.#end) this.#cut();
    else this.#at += 2;
  }

  #run(char: string): number {
    let to = this.#at;
    while (this.#text.charAt(to) === char) to += 1;
    return to - this.#at;
  }

  #codeSpan(): void {
    const count = this.#run("`");
    const from = this.#at + count;
    const mark = "`".repeat(count);
    let close = this.#text.indexOf(mark, from);
    while (close >= 0 && this.#text.charAt(close + count) === "`") {
      let after = close + count;
      while (this.#text.charAt(after) === "`") after += 1;
      close = this.#text.indexOf(mark, after);
    }
    if (close >= 0) {
      this.#at = close + count;
      return;
    }
    const code = this.#text.slice(from).replace(/`+$/, "").trimEnd();
    if (code.trim() === "") {
      this.#cut();
      return;
    }
    this.#end = from + code.length;
    this.#at = this.#end;
    this.#code = (code.startsWith(" ") ? " " : "") + mark;
  }

  #angle(): void {
    const rest = this.#text.slice(this.#at, this.#at + 2048);
    const whole = /^<[^<>\s]*>/.exec(rest);
    if (whole) this.#at += whole[0].length;
    else if (rest.length < 8 && SCHEMES.some((scheme) => scheme.startsWith(rest))) this.#cut();
    else {
      if (/^<(?:https?:|mailto:)[^\s<>]*$/i.test(rest)) this.#hidden.add(this.#at);
      this.#at += 1;
    }
  }

  #bracket(): void {
    if (this.#at + 1 >= this.#end && this.#mayStartLink(this.#at)) this.#cut();
    else this.#brackets.push(this.#at++);
  }

  #bracketEnd(): void {
    const from = this.#brackets.pop();
    const next = this.#text.charAt(this.#at + 1);
    if (from === undefined) {
      this.#at += 1;
    } else if (next === "(") {
      this.#destination(from);
    } else if (next === "[") {
      const end = this.#text.indexOf("]", this.#at + 2);
      if (end >= 0) this.#at = end + 1;
      else this.#pendingLabel(from);
    } else if (this.#at + 1 >= this.#end) {
      this.#pendingLabel(from);
    } else this.#at += 1;
  }

  /** `[label]` at the end: shown as its label, unless it looks like a note's number. */
  #pendingLabel(from: number): void {
    const label = this.#text.slice(from + 1, this.#at);
    if (this.#mayStartLink(from) && !/^(?:\d*|[ xX])$/.test(label)) {
      this.#hide(from);
      this.#cut();
    } else this.#at = this.#end;
  }

  #destination(from: number): void {
    let depth = 0;
    let at = this.#at + 1;
    for (; at < this.#end; at += 1) {
      const char = this.#text.charAt(at);
      if (char === "\\") at += 1;
      else if (char === "(") depth += 1;
      else if (char === ")") {
        depth -= 1;
        if (depth === 0) break;
      }
    }
    if (at < this.#end) {
      this.#at = at + 1;
      return;
    }
    const label = this.#text.slice(from + 1, this.#at);
    if (label.trim() === "" || label.length > LONGEST_LABEL) {
      this.#at = this.#end;
      return;
    }
    this.#at += 1;
    this.#cut();
    this.#tail = `(${PENDING_LINK})`;
  }

  #delimiter(mark: string): void {
    const count = this.#run(mark);
    const from = this.#at;
    this.#at += count;
    if (this.#at >= this.#end) {
      // It may open, close, or be half of either.
      this.#end = from;
      return;
    }
    if (mark === "~" && count !== 2) return;
    const before = this.#text.charAt(from - 1);
    const after = this.#text.charAt(this.#at);
    const spaced = (char: string) => char === "" || /\s/.test(char);
    const punctuated = (char: string) => /[\p{P}\p{S}]/u.test(char);
    const left = !spaced(after) && (!punctuated(after) || spaced(before) || punctuated(before));
    const right = !spaced(before) && (!punctuated(before) || spaced(after) || punctuated(after));
    const opens = left && (mark !== "_" || !right || punctuated(before));
    const closes = right && (mark !== "_" || !left || punctuated(after));
    let rest = closes ? this.#close(mark, count) : count;
    if (opens && rest > 0) this.#openers.push({ mark, at: from + count - rest, count: rest });
    rest = 0;
  }

  /** Closes what is open with the mark; returns how much of the run is left over. */
  #close(mark: string, count: number): number {
    let rest = count;
    while (rest > 0) {
      const at = this.#openers.findLastIndex((opener) => opener.mark === mark);
      const opener = this.#openers[at];
      if (!opener) break;
      this.#openers.length = at + 1;
      const taken = Math.min(rest, opener.count);
      opener.count -= taken;
      rest -= taken;
      if (opener.count === 0) this.#openers.pop();
    }
    return rest;
  }
}

function columns(row: string): number {
  const cells = row
    .trim()
    .replace(/^\|/, "")
    .replace(/(?<!\\)\|[ \t]*$/, "");
  return (cells.match(/(?<!\\)\|/g)?.length ?? 0) + 1;
}

function delimiterRow(header: string): string {
  return `|${"---|".repeat(columns(header))}`;
}

/** Whether the text ends within a fenced code block that is part of a list or a quote. */
function endsInFence(text: string): boolean {
  if (!text.includes("```") && !text.includes("~~~")) return false;
  let open = "";
  for (const line of text.split("\n").slice(0, -1)) {
    const found = FENCE_LINE.exec(line);
    const mark = found?.[2] ?? "";
    if (open === "") open = mark;
    else if (mark.length >= open.length && mark[0] === open[0] && found?.[3]?.trim() === "")
      open = "";
  }
  return open !== "";
}

/** Offset where the running text that the text ends with starts. */
function runningFrom(text: string): number {
  let from = text.length;
  const least = Math.max(0, text.length - FARTHEST);
  for (;;) {
    const line = text.lastIndexOf("\n", from - 2) + 1;
    if (line < least) return from === text.length ? least : from;
    const content = text.slice(line, from);
    if (isBlank(content.trimEnd()) && from < text.length) return from;
    if (STARTS_BLOCK.test(content) || line === 0) {
      return line + (MARKERS.exec(content)?.[0].length ?? 0);
    }
    from = line;
    if (from <= 0) return 0;
  }
}

/** The rows of a block that ends the text, its last one first, as far as a table needs. */
function inTable(lines: readonly string[]): boolean {
  for (let at = lines.length - 1; at > 0; at -= 1) {
    const line = lines[at] ?? "";
    if (isBlank(line)) return false;
    if (isDelimiter(line) && (lines[at - 1] ?? "").includes("|")) return true;
  }
  return false;
}

function closeCell(line: string): string {
  const cell = line.search(/\|(?:\\.|[^|\\])*$/) + 1;
  return line.slice(0, cell) + new Inline(line.slice(cell)).closed();
}

/** A table whose head is not whole, or whose last row is not; null where the text ends with none. */
function tablePending(text: string): string | null {
  const lines = text.slice(-FARTHEST).split("\n");
  const last = lines.at(-1) ?? "";
  const before = lines.at(-2) ?? "";
  const upTo = text.slice(0, text.length - last.length);
  if (inTable(lines.slice(0, -1))) {
    return /^[ \t|]*$/.test(last) ? upTo : upTo + closeCell(last);
  }
  const headBefore = /^ {0,3}\|/.test(before) || (before.includes("|") && /[|:]/.test(last));
  if (headBefore && /^[ |:-]*$/.test(last) && !isBlank(before)) {
    return upTo + delimiterRow(before);
  }
  if (!/^ {0,3}\|/.test(last)) return null;
  if (/^[ \t|]*$/.test(last)) return upTo;
  const row = closeCell(last);
  return `${upTo}${row}\n${delimiterRow(row)}`;
}

/**
 * The text with its unfinished end closed, to be lexed in its place while more of it is to come.
 * @param text Whole lines and the last, unfinished one, of blocks that are not fenced code.
 */
export function closePending(text: string): string {
  if (/\n[ \t]*\n[ \t]*$/.test(text)) return text;
  const start = text.lastIndexOf("\n") + 1;
  const line = text.slice(start);
  if (endsInFence(text)) {
    return /^[ \t>]*[`~]+[ \t]*$/.test(line) ? text.slice(0, start) : text;
  }
  const fence = line.length <= 200 ? FENCE_LINE.exec(line) : null;
  if (fence) return text.slice(0, start) + fence[1] + fence[2];
  const table = tablePending(text);
  if (table !== null) return table;
  const before = text.slice(text.lastIndexOf("\n", start - 2) + 1, Math.max(0, start - 1));
  if (line.length <= 2000 && mayDefine(line, before)) return text.slice(0, start);
  if (line.length <= 100 && ONLY_MARKERS.test(line)) {
    if (isBlank(line)) return closeRunning(text);
    const rest = text.slice(0, start);
    return isBlank(rest) ? "" : closeRunning(rest);
  }
  return closeRunning(text);
}

/** What may become a link definition, which shows nothing: so much of one, or of a link, is not shown. */
function mayDefine(line: string, before: string): boolean {
  if (before !== "" && !isDefinition(before) && !isBlank(before)) return false;
  return /^ {0,3}\[(?!\^)(?:[^\]]{0,300}|[^\]]{1,300}\](?:: *\S*(?: +["'(].*)? *)?)$/.test(line);
}

function closeRunning(text: string): string {
  if (/\n[ \t]*\n[ \t]*$/.test(text)) return text;
  const body = text.trimEnd();
  const from = runningFrom(body);
  return body.slice(0, from) + new Inline(body.slice(from)).closed();
}

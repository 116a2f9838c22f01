/** What a line of Markdown starts, looked at by itself; the rules are those of CommonMark and of `marked`. */

export interface Fence {
  /** The run that opened it: as many backticks or tildes, or more, close it. */
  readonly mark: string;
  /** Spaces before the run; as many are taken off each line of the code. */
  readonly indent: number;
  /** The info string, trimmed. */
  readonly info: string;
}

export interface Bullet {
  /** `-`, `+`, `*`, `.` or `)`: items of one list share it. */
  readonly type: string;
  /** The column where the item's content starts. */
  readonly indent: number;
  /** Whether such a line may end a paragraph without a blank line between. */
  readonly interrupts: boolean;
}

const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;
const BULLET = /^( {0,3})([-+*]|\d{1,9}[.)])([ \t]*)(\S?)/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|(?:\*[ \t]*){3,})$/;
const HEADING = /^ {0,3}#{1,6}(?:\s|$)/;
const DELIMITER = /^ {0,3}(?:\| *)?:?-+:? *(?:\| *:?-+:? *)*(?:\| *)?$/;

const BLOCK_TAGS = new Set(
  (
    "address article aside base basefont blockquote body caption center col colgroup dd details " +
    "dialog dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 " +
    "head header hr html iframe legend li link main menu menuitem meta nav noframes ol optgroup " +
    "option p param search section summary table tbody td tfoot th thead title tr track ul"
  ).split(" "),
);
const TAG_6 = /^<\/?([a-z][a-z0-9]*)(?:[ \t]|$|\/?>)/i;
const OPEN_7 =
  /^<(?!(?:script|pre|style|textarea)(?![a-z0-9-]))[a-z][a-z0-9-]*(?:[ \t]+[a-z:_][\w.:-]*(?:[ \t]*=[ \t]*(?:"[^"\n]*"|'[^'\n]*'|[^\s"'=<>`]+))?)*[ \t]*\/?>[ \t]*$/i;
const CLOSE_7 = /^<\/[a-z][a-z0-9-]*\s*>[ \t]*$/i;
/** A longer line starts no HTML block of type 7: its pattern looks at the whole line. */
const LONGEST_TAG = 1000;

export function isBlank(line: string): boolean {
  return /^[ \t]*$/.test(line);
}

/** Columns of white space at the start of a line, tab stops at four. */
export function indentOf(line: string): number {
  let column = 0;
  for (const char of line) {
    if (char === " ") column += 1;
    else if (char === "\t") column += 4 - (column % 4);
    else break;
  }
  return column;
}

export function fenceOf(line: string): Fence | null {
  const found = FENCE.exec(line);
  if (!found) return null;
  const [, indent = "", mark = "", info = ""] = found;
  if (mark.startsWith("`") && info.includes("`")) return null;
  return { mark, indent: indent.length, info: info.trim() };
}

export function closesFence(line: string, fence: Fence): boolean {
  const found = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line);
  const mark = found?.[1] ?? "";
  return mark.length >= fence.mark.length && mark[0] === fence.mark[0];
}

export function isRule(line: string): boolean {
  return RULE.test(line);
}

export function isHeading(line: string): boolean {
  return HEADING.test(line);
}

export function isQuote(line: string): boolean {
  return /^ {0,3}>/.test(line);
}

/** A link definition on one line. */
export function isDefinition(line: string): boolean {
  return /^ {0,3}\[[^[\]]+\]: *\S+(?: +(?:"[^"]*"|'[^']*'|\([^()]*\)))? *$/.test(line);
}

/** A table's second line. */
export function isDelimiter(line: string): boolean {
  return /[|:]/.test(line) && DELIMITER.test(line);
}

export function bulletOf(line: string): Bullet | null {
  const found = BULLET.exec(line);
  if (!found || isRule(line)) return null;
  const [, before = "", mark = "", space = "", first = ""] = found;
  if (space === "" && first !== "") return null;
  const marked = before.length + mark.length;
  const gap = indentOf(space);
  return {
    type: mark.slice(-1),
    indent: first === "" || gap > 4 ? marked + 1 : marked + gap,
    interrupts: first !== "" && (mark.length === 1 || mark.length === 2) && /^[-+*1]/.test(mark),
  };
}

/**
 * What ends the HTML block that a line starts: a pattern that the last line holds, or `"blank"` for
 * the line before a blank one; null where the line starts none.
 */
export function htmlEnd(line: string, inParagraph: boolean): RegExp | "blank" | null {
  const tag = line.trimStart();
  if (!tag.startsWith("<")) return null;
  const raw = /^<(script|pre|style|textarea)(?:[\s>]|$)/i.exec(tag);
  if (raw) return new RegExp(`</${raw[1]}>`, "i");
  if (tag.startsWith("<!--")) return /-->/;
  if (tag.startsWith("<?")) return /\?>/;
  if (tag.startsWith("<![CDATA[")) return /\]\]>/;
  if (/^<![a-z]/i.test(tag)) return />/;
  const block = TAG_6.exec(tag);
  if (block && BLOCK_TAGS.has((block[1] ?? "").toLowerCase())) return "blank";
  if (inParagraph || tag.length > LONGEST_TAG) return null;
  return OPEN_7.test(tag) || CLOSE_7.test(tag) ? "blank" : null;
}

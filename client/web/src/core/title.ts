/** The title of a new chat, until its app or its person gives it another: how it begins. */

const LONGEST = 60;
/** Shorter than this, a title is not cut at a word's end: nothing would be left of it. */
const SHORTEST = 30;
/** What the sidecar refuses in a title, and what Markdown would make of a line's beginning. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be found
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/gu;
const MARKS = /^(?:#{1,6}|>|[-*+]|```\w*)\s*/u;

/** @returns The first line that says something, at most 60 characters; empty where none does. */
export function titleOf(text: string): string {
  for (const line of text.split(/[\r\n]+/u)) {
    const plain = line.replace(CONTROLS, " ").trim().replace(MARKS, "").trim();
    if (plain !== "" && /[\p{L}\p{N}]/u.test(plain)) {
      return cut(plain);
    }
  }
  return "";
}

function cut(text: string): string {
  const points = [...text.replace(/\s+/gu, " ")];
  if (points.length <= LONGEST) {
    return points.join("");
  }
  const head = points.slice(0, LONGEST - 1).join("");
  const word = head.lastIndexOf(" ");
  return `${(word >= SHORTEST ? head.slice(0, word) : head).trimEnd()}…`;
}

/** Highlights code in idle time and in pieces, so that no task of the page waits long for it. */
import type { ElementContent } from "hast";

/** Longer code stays plain. */
export const LONGEST_HIGHLIGHTED = 50 * 1024;
/** A piece takes about 15 ms on a slow machine. */
const PIECE = 4 * 1024;

/** A stretch of code in one colour, or in none where `name` is empty. */
export interface Stretch {
  readonly name: string;
  readonly text: string;
}

/** Makes the tree flat: the innermost class counts; neighbours of one class are joined. */
function flatten(nodes: readonly ElementContent[], name: string, into: Stretch[]): void {
  for (const node of nodes) {
    if (node.type === "text") {
      const last = into.at(-1);
      if (last?.name === name) into[into.length - 1] = { name, text: last.text + node.value };
      else into.push({ name, text: node.value });
    } else if (node.type === "element") {
      const { className } = node.properties;
      const own = Array.isArray(className) ? className.join(" ") : "";
      flatten(node.children, own || name, into);
    }
  }
}

/** Cuts code before lines at the margin that follow a blank one: seldom within a string or a comment. */
export function pieces(code: string): string[] {
  const cut: string[] = [];
  let from = 0;
  while (code.length - from > PIECE) {
    const found = /\n[ \t]*\n(?=\S)|\n(?=\S)/.exec(code.slice(from + PIECE, from + 2 * PIECE));
    const to = found ? from + PIECE + found.index + found[0].length : from + 2 * PIECE;
    cut.push(code.slice(from, to));
    from = to;
  }
  if (from < code.length) cut.push(code.slice(from));
  return cut;
}

/** Runs the work when the page is idle; returns what calls it off. */
function whenIdle(work: () => void): () => void {
  // Safari has no idle callback.
  if (typeof requestIdleCallback === "function") {
    const id = requestIdleCallback(work, { timeout: 2000 });
    return () => cancelIdleCallback(id);
  }
  const id = setTimeout(work, 30);
  return () => clearTimeout(id);
}

/**
 * Highlights code.
 * @param show Called with each piece in turn; never where the language is not known.
 * @returns What calls it off.
 */
export function highlight(
  language: string,
  code: string,
  show: (piece: readonly Stretch[]) => void,
): () => void {
  let off = false;
  let callOff = () => {
    off = true;
  };
  const start = async () => {
    const { highlighted, knows } = await import("./languages.ts");
    if (off || !knows(language)) return;
    const rest = pieces(code);
    const next = () => {
      const piece = rest.shift();
      if (piece === undefined) return;
      const into: Stretch[] = [];
      flatten(highlighted(language, piece).children as ElementContent[], "", into);
      show(into);
      callOff = whenIdle(next);
    };
    callOff = whenIdle(next);
  };
  // The network may be away: the code stays plain.
  start().catch(() => undefined);
  return () => callOff();
}

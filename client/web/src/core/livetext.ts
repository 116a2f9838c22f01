/**
 * The text of an open stream. The protocol counts in code points, a string here in UTF-16 units, so
 * the places of the characters that take two units are kept: adding costs what is added, and a cut
 * finds its place by a binary search.
 */
export class LiveText {
  /** The text so far. */
  text = "";
  /** Its length in code points. */
  length = 0;
  revision = 0;
  /** Ascending places, in code points, of characters that take two units. */
  #wide: number[] = [];

  /** Takes the whole text anew. */
  reset(revision: number, text: string): void {
    this.revision = revision;
    this.text = "";
    this.length = 0;
    this.#wide = [];
    this.#append(text);
  }

  /**
   * Takes a delta.
   *
   * @returns `same` where it brings nothing, `gap` where text before it is missing.
   */
  add(revision: number, position: number, text: string): "changed" | "same" | "gap" {
    if (revision < this.revision) {
      return "same";
    }
    if (position > this.length) {
      return "gap";
    }
    if (revision > this.revision) {
      this.revision = revision;
      this.#cut(position);
      this.#append(text);
      return "changed";
    }
    const fresh = text.slice(units(text, this.length - position));
    if (fresh === "") {
      return "same";
    }
    this.#append(fresh);
    return "changed";
  }

  #append(text: string): void {
    for (let i = 0; i < text.length; i++) {
      if (isWide(text, i)) {
        this.#wide.push(this.length);
        i++;
      }
      this.length++;
    }
    this.text += text;
  }

  #cut(position: number): void {
    if (position === this.length) {
      return;
    }
    let low = 0;
    let high = this.#wide.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#wide[middle] ?? 0) < position) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    this.text = this.text.slice(0, position + low);
    this.#wide.length = low;
    this.length = position;
  }
}

/** Whether a character of two units begins at a place. */
function isWide(text: string, at: number): boolean {
  const first = text.charCodeAt(at);
  if (first < 0xd800 || first > 0xdbff) {
    return false;
  }
  const second = text.charCodeAt(at + 1);
  return second >= 0xdc00 && second <= 0xdfff;
}

/** How many units the first so many code points take; at most the text's length. */
function units(text: string, points: number): number {
  let at = 0;
  for (let i = 0; i < points && at < text.length; i++) {
    at += isWide(text, at) ? 2 : 1;
  }
  return at;
}

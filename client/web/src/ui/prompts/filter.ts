/** Finds options by what a person types of them. */

export interface Found {
  readonly label: string;
  /** Its place among all options. */
  readonly index: number;
}

/** Returns the options that contain every word of a text, whatever their case and accents. */
export function found(options: readonly string[], text: string): readonly Found[] {
  const words = plain(text).split(/\s+/).filter(Boolean);
  const all = options.map((label, index) => ({ label, index }));
  if (words.length === 0) return all;
  return all.filter(({ label }) => {
    const given = plain(label);
    return words.every((word) => given.includes(word));
  });
}

function plain(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase();
}

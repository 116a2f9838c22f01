/** How much of a message's allowance a text uses. */

const NEAR = 0.9;

export type Room =
  | { readonly kind: "plenty" }
  | { readonly kind: "near" | "over"; readonly bytes: number };

/** Returns the UTF-8 bytes of a text, without encoding it. A lone surrogate counts 3, as it is sent. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) {
      bytes += 1;
    } else if (unit >= 0xd800 && unit < 0xdc00 && isLow(text.charCodeAt(i + 1))) {
      bytes += 2; // two units of one character of four bytes
      i++;
    } else {
      bytes += 2;
    }
  }
  return bytes;
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Returns how near a text is to `max` bytes; counts only where it could matter. */
export function room(text: string, max: number): Room {
  if (text.length * 3 < max * NEAR) return { kind: "plenty" };
  const bytes = utf8Length(text);
  if (bytes > max) return { kind: "over", bytes };
  return bytes >= max * NEAR ? { kind: "near", bytes } : { kind: "plenty" };
}

/** Returns bytes as a person reads them. */
export function readable(bytes: number): string {
  if (bytes < 1024) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const kib = bytes / 1024;
  return kib < 1024 ? `${round(kib)} KiB` : `${round(kib / 1024)} MiB`;
}

function round(value: number): string {
  return value < 10 ? (Math.round(value * 10) / 10).toString() : Math.round(value).toString();
}

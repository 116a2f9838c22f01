/** How large a picture says it is, read from its first bytes: a small file may be a huge picture. */

export interface Dimensions {
  readonly width: number;
  readonly height: number;
}

/** So much of a file is looked at: what cameras put before a JPEG's size fits in. */
export const HEAD_BYTES = 256 * 1024;

/** Returns the size of a PNG, GIF, WebP or JPEG in dots; null where it does not say. */
export function dimensions(head: Uint8Array<ArrayBuffer>): Dimensions | null {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  try {
    return png(view) ?? gif(view) ?? webp(view) ?? jpeg(view);
  } catch (error) {
    if (error instanceof RangeError) return null; // It ends too early.
    throw error;
  }
}

function ascii(view: DataView, at: number, text: string): boolean {
  return [...text].every((letter, i) => view.getUint8(at + i) === letter.charCodeAt(0));
}

function png(view: DataView): Dimensions | null {
  if (view.getUint32(0) !== 0x89504e47 || !ascii(view, 12, "IHDR")) return null;
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

function gif(view: DataView): Dimensions | null {
  if (!ascii(view, 0, "GIF8")) return null;
  return { width: view.getUint16(6, true), height: view.getUint16(8, true) };
}

function webp(view: DataView): Dimensions | null {
  if (!ascii(view, 0, "RIFF") || !ascii(view, 8, "WEBP")) return null;
  if (ascii(view, 12, "VP8X")) {
    const of24 = (at: number) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    return { width: of24(24) + 1, height: of24(27) + 1 };
  }
  if (ascii(view, 12, "VP8L")) {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  if (!ascii(view, 12, "VP8 ")) return null;
  return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}

/** Goes from mark to mark until the one that begins the picture. */
function jpeg(view: DataView): Dimensions | null {
  if (view.getUint16(0) !== 0xffd8) return null;
  for (let at = 2; ; ) {
    if (view.getUint8(at) !== 0xff) return null;
    const mark = view.getUint8(at + 1);
    if (mark === 0xff) {
      at += 1; // Filling.
      continue;
    }
    const begins = mark >= 0xc0 && mark <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(mark);
    if (begins) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    const length = view.getUint16(at + 2);
    if (length < 2 || mark === 0xda) return null;
    at += 2 + length;
  }
}

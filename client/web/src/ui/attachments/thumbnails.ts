/**
 * Small pictures of files that are being uploaded, drawn rather than loaded: the page's content
 * security policy knows no addresses of files in memory. One at a time, and nothing huge.
 */
import { dimensions, HEAD_BYTES } from "./dimensions.ts";
import { isPicture } from "./kinds.ts";

/** Dots in all: what is decoded takes four bytes for each. */
const MAX_DOTS = 50_000_000;
/** Longer and narrower ones say nothing as a small square. */
const MAX_RATIO = 16;
const SIDE = 96;

/** Draws one picture after the other. */
export class Thumbnails {
  private last: Promise<unknown> = Promise.resolve();

  /**
   * Draws a file's picture, cut to a square.
   *
   * @returns False where there is none to draw.
   */
  draw(source: Blob, canvas: HTMLCanvasElement, signal: AbortSignal): Promise<boolean> {
    const mine = this.last.then(() => !signal.aborted && drawn(source, canvas));
    this.last = mine.catch(() => undefined);
    return mine.catch(() => false); // It is not what it says it is.
  }
}

async function drawn(source: Blob, canvas: HTMLCanvasElement): Promise<boolean> {
  if (typeof createImageBitmap !== "function" || !isPicture(source.type, source.size)) return false;
  const head = new Uint8Array(await source.slice(0, HEAD_BYTES).arrayBuffer());
  const size = dimensions(head);
  const least = size && Math.min(size.width, size.height);
  if (!size || !least || size.width * size.height > MAX_DOTS) return false;
  const ratio = Math.max(size.width, size.height) / least;
  if (ratio > MAX_RATIO) return false;
  // By the width alone, so that a camera that was held upright gives no distorted picture.
  const resizeWidth = Math.min(Math.ceil(SIDE * ratio), Math.max(size.width, size.height));
  const bitmap = await createImageBitmap(source, { resizeWidth, resizeQuality: "medium" });
  const side = Math.min(bitmap.width, bitmap.height);
  canvas.width = SIDE;
  canvas.height = SIDE;
  canvas
    .getContext("2d")
    ?.drawImage(
      bitmap,
      (bitmap.width - side) / 2,
      (bitmap.height - side) / 2,
      side,
      side,
      0,
      0,
      SIDE,
      SIDE,
    );
  bitmap.close();
  return true;
}

/** Which addresses may be followed and which images may be shown. */
import { decode } from "./text.ts";

const FOLLOWED = new Set(["http:", "https:", "mailto:"]);
const IMAGE_DATA = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,[a-zA-Z\d+/=]+$/;
const LONGEST = 8192;
/** No page is served from here: a path is one of our own origin if it stays on this. */
const NOWHERE = "https://same-origin.invalid";

function parse(address: string, base?: string): URL | null {
  try {
    return new URL(address, base);
  } catch {
    return null; // Not an address.
  }
}

/** A path on the page's own origin, or null. */
function ownPath(address: string): string | null {
  if (!address.startsWith("/")) return null;
  const url = parse(address, NOWHERE);
  if (url?.origin !== NOWHERE) return null;
  return url.pathname + url.search + url.hash;
}

/** What a link may lead to, normalised; null where the link is to be shown as its text. */
export function linkTarget(href: string): string | null {
  const address = decode(href);
  if (address.length > LONGEST) return null;
  const own = ownPath(address);
  if (own !== null) return own;
  const url = parse(address);
  if (!url || !FOLLOWED.has(url.protocol)) return null;
  // A name before the host is there to look like the host.
  if (url.username !== "" || url.password !== "") return null;
  return url.href;
}

/**
 * Whether an image may be loaded from a path of our own origin. Files only: whoever wrote the text
 * would otherwise have the browser ask for anything here, with the cookie of the person who reads.
 *
 * @param path - As a URL has it: dots are resolved, and no server is asked to take an encoded
 *   slash for one.
 */
export function isFile(path: string): boolean {
  return path.startsWith("/files/") && !/%(?:2f|5c)/i.test(path);
}

/** Whether an address is a picture itself: made of dots, as what is drawn may load other things. */
export function isImageData(address: string): boolean {
  return IMAGE_DATA.test(address);
}

/** What an image may be loaded from; null where a link is shown instead. */
export function imageSource(href: string): string | null {
  if (isImageData(href)) return href;
  const address = decode(href);
  const own = address.length > LONGEST ? null : ownPath(address);
  return own !== null && isFile(own.split(/[?#]/, 1)[0] ?? "") ? own : null;
}

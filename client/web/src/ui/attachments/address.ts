/** Where files are loaded from: signed addresses that are good for a week. */
import { isFile } from "../../markdown/urls.ts";

/** An address is renewed where so little of its week is left. */
const RENEW_MS = 24 * 3_600_000;
const NOWHERE = "https://same-origin.invalid";

/**
 * Returns path and query of a file's address, for the page's own origin: the sidecar may know itself
 * under another one. Empty where it is not a file's.
 */
export function fileAddress(url: string): string {
  try {
    const { pathname, search } = new URL(url, NOWHERE);
    return isFile(pathname) ? pathname + search : "";
  } catch {
    return ""; // Not an address.
  }
}

/** Whether an address ends soon, or has ended. */
export function isStale(address: string, now: number): boolean {
  if (address === "") return true;
  const seconds = Number(new URL(address, NOWHERE).searchParams.get("expires"));
  return !(seconds * 1000 - now > RENEW_MS);
}

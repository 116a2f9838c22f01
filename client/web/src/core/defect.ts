/** Defects of the page itself: they are told where somebody who can mend them looks. */

/** Something that threw in the page, not on the line. */
export class Defect extends Error {
  override readonly name = "Defect";

  constructor(override readonly cause: unknown) {
    super("a defect of the page");
  }
}

/** Shows an error in the console, as one that nobody has caught. */
export function report(error: unknown): void {
  if (typeof globalThis.reportError === "function") {
    globalThis.reportError(error); // Not in every browser.
  }
}

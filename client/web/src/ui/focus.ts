/** Where the focus is when the control that has it goes away: never on the page as a whole. */
import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

/**
 * Keeps the focus where a rendering takes away, or disables, what has it inside of an element. It is
 * never taken from anything else.
 *
 * Call it where everything is read that may take a control away: it looks when its component renders.
 *
 * @param within - The element; it may go, too.
 * @param lost - Puts the focus elsewhere; the element has it where it is not said.
 */
export function useFocusKept(within: RefObject<HTMLElement | null>, lost?: () => unknown): void {
  const held = within.current?.contains(document.activeElement) === true;
  useLayoutEffect(() => {
    if (!held || !isNowhere()) return;
    if (lost) lost();
    else within.current?.focus({ preventScroll: true });
  });
}

function isNowhere(): boolean {
  const active = document.activeElement;
  // One that is disabled loses it a moment later.
  return active === null || active === document.body || active.matches(":disabled");
}

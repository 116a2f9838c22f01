/**
 * Keeps a second click from answering what the person has not read: a question that has just come to
 * where the pointer is takes no click of it. Keys are not held back, and nothing looks different.
 */
import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

/** So long a control has to be where it is clicked; most double clicks are quicker. */
export const REST_MS = 500;
/** What moves so soon after a wheel or a finger was moved by the person, who sees where it goes. */
const HAND_MS = 400;

interface Place {
  readonly since: number;
  readonly at: DOMRect;
}

/** Where the buttons of a card were in the last half second. */
export class Rest {
  readonly #places = new Map<Element, Place[]>();
  readonly #card: HTMLElement;
  #hand = Number.NEGATIVE_INFINITY;

  constructor(card: HTMLElement) {
    this.#card = card;
    this.look();
  }

  /** A wheel or a finger scrolls. */
  readonly hand = (): void => {
    this.#hand = performance.now();
  };

  /** Call whenever something may have moved, come or gone. */
  readonly look = (): void => {
    const now = performance.now();
    const buttons = new Set<Element>(this.#card.querySelectorAll("button"));
    for (const gone of this.#places.keys()) {
      if (!buttons.has(gone)) this.#places.delete(gone);
    }
    for (const button of buttons) {
      const at = button.getBoundingClientRect();
      const places = this.#places.get(button) ?? [];
      const last = places.at(-1);
      if (last && isSame(last.at, at)) continue;
      const known =
        last && now - this.#hand < HAND_MS
          ? places.map(({ since }) => ({ since, at }))
          : [...places, { since: now, at }];
      const rested = known.findLastIndex(({ since }) => now - since >= REST_MS);
      this.#places.set(button, known.slice(Math.max(0, rested)));
    }
  };

  /** Whether a click is one of a pointer, on a button that was not there when it was decided on. */
  isHasty(event: MouseEvent): boolean {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (!button || event.detail === 0) return false; // 0: it was not a pointer.
    this.look();
    const then = performance.now() - REST_MS;
    const places = this.#places.get(button) ?? [];
    const rested = places.findLastIndex(({ since }) => since <= then);
    return rested < 0 || !places.slice(rested).every(({ at }) => holds(at, event));
  }
}

function isSame(a: DOMRect, b: DOMRect): boolean {
  return a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height;
}

function holds({ left, right, top, bottom }: DOMRect, { clientX: x, clientY: y }: MouseEvent) {
  return x >= left && x <= right && y >= top && y <= bottom;
}

/** Holds hasty clicks back from a card's buttons while it is `open`. */
export function useRest(ref: RefObject<HTMLElement | null>, open: boolean): void {
  useLayoutEffect(() => {
    const card = ref.current;
    if (!card || !open) return;
    const rest = new Rest(card);
    const onClick = (event: MouseEvent) => {
      if (!rest.isHasty(event)) return;
      event.preventDefault();
      event.stopPropagation();
    };
    const scroll = { capture: true, passive: true };
    const sizes = new ResizeObserver(rest.look);
    for (const each of [card, card.closest(".entries"), card.closest(".scroller")]) {
      if (each) sizes.observe(each);
    }
    const contents = new MutationObserver(rest.look);
    contents.observe(card, { childList: true, subtree: true });
    card.addEventListener("click", onClick, true);
    document.addEventListener("scroll", rest.look, scroll);
    document.addEventListener("wheel", rest.hand, scroll);
    document.addEventListener("touchmove", rest.hand, scroll);
    return () => {
      sizes.disconnect();
      contents.disconnect();
      card.removeEventListener("click", onClick, true);
      document.removeEventListener("scroll", rest.look, scroll);
      document.removeEventListener("wheel", rest.hand, scroll);
      document.removeEventListener("touchmove", rest.hand, scroll);
    };
  }, [ref, open]);
}

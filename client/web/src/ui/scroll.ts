/** Keeps a scrolling conversation where the person is: at its end while it grows, else in place. */
import { type ReadonlySignal, signal } from "@preact/signals";
import { distance, type Place, sticks } from "./stick.ts";

/** Pixels above the view at which older items are asked for. */
const EARLY = 900;
/** Milliseconds for which a scroll may come of content that has changed. */
const UNREST = 500;
/** Milliseconds for which a scroll may come of a wheel, a key or a finger. */
const REACH = 1000;
/** How a person moves a view. */
const HANDS = ["wheel", "touchmove", "keydown", "pointerdown"] as const;

interface Anchor {
  readonly element: HTMLElement;
  /** Pixels from the view's top edge, where the view was `top` pixels down. */
  readonly offset: number;
  readonly top: number;
}

export class ScrollKeeper {
  private readonly stuckSignal = signal(true);
  private before: Place;
  private anchor: Anchor | null = null;
  private readonly observer: ResizeObserver;
  /** When the content changed last, and when a hand was at the view; Infinity while it is held. */
  private changed = Number.NEGATIVE_INFINITY;
  private hand = Number.NEGATIVE_INFINITY;

  /**
   * @param scroller The element that scrolls.
   * @param content Its child, whose children are the entries from top to bottom.
   * @param onNearTop Called when older items would be of use; may be called often.
   */
  constructor(
    private readonly scroller: HTMLElement,
    private readonly content: HTMLElement,
    private readonly onNearTop: () => void,
  ) {
    this.before = this.place();
    this.observer = new ResizeObserver(() => this.onResize());
    this.observer.observe(content);
    this.observer.observe(scroller);
    scroller.addEventListener("scroll", this.onScroll, { passive: true });
    for (const type of HANDS) scroller.addEventListener(type, this.onHand, { passive: true });
    // A scroll bar does not tell in every browser that it was let go; the next movement does.
    scroller.addEventListener("pointermove", this.onLetGo, { passive: true });
    this.toBottom();
  }

  /** Whether the view is at the end and stays there. */
  get stuck(): ReadonlySignal<boolean> {
    return this.stuckSignal;
  }

  dispose(): void {
    this.observer.disconnect();
    this.scroller.removeEventListener("scroll", this.onScroll);
    for (const type of HANDS) this.scroller.removeEventListener(type, this.onHand);
    this.scroller.removeEventListener("pointermove", this.onLetGo);
  }

  toBottom(): void {
    this.stuckSignal.value = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.before = this.place();
  }

  /** Brings an element into the middle of the view, as a person would who scrolls there. */
  reveal(element: HTMLElement): void {
    this.hand = performance.now();
    this.stuckSignal.value = false;
    this.anchor = null;
    element.scrollIntoView({ block: "center" });
    this.before = this.place();
    this.stuckSignal.value = distance(this.before) < 1;
    this.anchor = this.stuckSignal.value ? null : this.nextAnchor();
  }

  /** Asks for older items where the view is near the top. */
  check(): void {
    if (this.scroller.scrollTop < EARLY) this.onNearTop();
  }

  private readonly onScroll = () => {
    // Reading the layout may itself have laid out what has come near the view, and moved the rest.
    this.restore();
    if (this.stuckSignal.peek() && this.byItself()) {
      this.toBottom();
      this.check();
      return;
    }
    const now = this.place();
    this.stuckSignal.value = sticks(this.stuckSignal.value, this.before, now);
    this.before = now;
    this.anchor = this.stuckSignal.value ? null : this.nextAnchor();
    this.check();
  };

  private readonly onHand = (event: Event) => {
    this.hand = event.type === "pointerdown" ? Number.POSITIVE_INFINITY : performance.now();
  };

  private readonly onLetGo = (event: PointerEvent) => {
    if (event.buttons === 0 && this.hand === Number.POSITIVE_INFINITY) {
      this.hand = performance.now();
    }
  };

  /**
   * Whether it is the content that moved the view: what becomes shorter and then longer between two
   * frames leaves it higher up, just as a person would.
   */
  private byItself(): boolean {
    const now = performance.now();
    return now - this.changed < UNREST && now - this.hand > REACH;
  }

  /** Before the paint: text grew, older items came, or the keyboard of a phone came up. */
  private onResize(): void {
    this.changed = performance.now();
    if (this.stuckSignal.value) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
    } else {
      this.restore();
    }
    this.before = this.place();
    this.check();
  }

  /** Puts the anchor back where the person left it: whatever moved it but their scrolling. */
  private restore(): void {
    const { anchor, scroller } = this;
    if (this.stuckSignal.peek() || !anchor?.element.isConnected) return;
    const scrolled = scroller.scrollTop - anchor.top;
    const moved = this.offsetOf(anchor.element) - (anchor.offset - scrolled);
    if (Math.abs(moved) >= 1) {
      scroller.scrollTop += moved;
      this.anchor = this.anchorAt(anchor.element);
    }
  }

  private place(): Place {
    const { scrollTop: top, scrollHeight: height, clientHeight: view } = this.scroller;
    return { top, height, view };
  }

  private offsetOf(element: HTMLElement): number {
    return element.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top;
  }

  /**
   * Keeps the anchor while it is in view. What comes into view above it has had no size of its own
   * until now, and would push the rest away if it were the anchor.
   */
  private nextAnchor(): Anchor | null {
    const { anchor } = this;
    if (anchor?.element.isConnected) {
      const offset = this.offsetOf(anchor.element);
      if (offset >= 0 && offset < this.scroller.clientHeight) return this.anchorAt(anchor.element);
    }
    return this.findAnchor();
  }

  /** Finds the first entry that begins in view, by halving: there may be thousands. */
  private findAnchor(): Anchor | null {
    const { children } = this.content;
    let low = 0;
    let high = children.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.offsetOf(children[middle] as HTMLElement) >= 0) high = middle;
      else low = middle + 1;
    }
    const first = children[low];
    if (!(first instanceof HTMLElement)) return null;
    // An entry taller than the view: it is all there is to hold on to.
    const before = first.previousElementSibling;
    const outside = this.offsetOf(first) >= this.scroller.clientHeight;
    return this.anchorAt(outside && before instanceof HTMLElement ? before : first);
  }

  private anchorAt(element: HTMLElement): Anchor {
    return { element, offset: this.offsetOf(element), top: this.scroller.scrollTop };
  }
}

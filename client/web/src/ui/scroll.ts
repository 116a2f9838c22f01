/** Keeps a scrolling conversation where the person is: at its end while it grows, else in place. */
import { type ReadonlySignal, signal } from "@preact/signals";
import { distance, type Place, sticks } from "./stick.ts";

/** Pixels above the view at which older items are asked for. */
const EARLY = 900;

interface Anchor {
  readonly element: HTMLElement;
  /** Pixels from the view's top edge. */
  readonly offset: number;
}

export class ScrollKeeper {
  private readonly stuckSignal = signal(true);
  private before: Place;
  private anchor: Anchor | null = null;
  private readonly observer: ResizeObserver;

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
    this.toBottom();
  }

  /** Whether the view is at the end and stays there. */
  get stuck(): ReadonlySignal<boolean> {
    return this.stuckSignal;
  }

  dispose(): void {
    this.observer.disconnect();
    this.scroller.removeEventListener("scroll", this.onScroll);
  }

  toBottom(): void {
    this.stuckSignal.value = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.before = this.place();
  }

  /** Asks for older items where the view is near the top. */
  check(): void {
    if (this.scroller.scrollTop < EARLY) this.onNearTop();
  }

  private readonly onScroll = () => {
    const now = this.place();
    this.stuckSignal.value = sticks(this.stuckSignal.value, this.before, now);
    this.before = now;
    this.anchor = this.stuckSignal.value ? null : this.findAnchor();
    this.check();
  };

  /** Before the paint: text grew, older items came, or the keyboard of a phone came up. */
  private onResize(): void {
    if (this.stuckSignal.value) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
    } else if (this.anchor?.element.isConnected) {
      const moved = this.offsetOf(this.anchor.element) - this.anchor.offset;
      if (Math.abs(moved) >= 1) this.scroller.scrollTop += moved;
    }
    this.before = this.place();
    this.check();
  }

  private place(): Place {
    const { scrollTop: top, scrollHeight: height, clientHeight: view } = this.scroller;
    return { top, height, view };
  }

  private offsetOf(element: HTMLElement): number {
    return element.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top;
  }

  /** Finds the first entry that is in view, by halving: there may be thousands. */
  private findAnchor(): Anchor | null {
    const { children } = this.content;
    let low = 0;
    let high = children.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const element = children[middle] as HTMLElement;
      if (this.offsetOf(element) + element.offsetHeight > 0) high = middle;
      else low = middle + 1;
    }
    const element = children[low];
    return element instanceof HTMLElement ? { element, offset: this.offsetOf(element) } : null;
  }

  /** Pixels below the view. */
  get rest(): number {
    return distance(this.place());
  }
}

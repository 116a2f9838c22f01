/** What screen readers are told: a few lines of a polite live region, the oldest leaving. */
import { type ReadonlySignal, signal } from "@preact/signals";

const KEPT = 4;

export interface Line {
  readonly id: number;
  readonly text: string;
}

export class Announcer {
  private readonly said = signal<readonly Line[]>([]);
  private count = 0;

  get lines(): ReadonlySignal<readonly Line[]> {
    return this.said;
  }

  say(text: string): void {
    if (!text) return;
    this.count += 1;
    this.said.value = [...this.said.value.slice(1 - KEPT), { id: this.count, text }];
  }
}

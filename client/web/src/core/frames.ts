/** Hands what the line brings to those who keep it, and to the screen once for all of it. */

import { batch } from "@preact/signals";
import type { Event, FollowFrame } from "../wire.ts";
import type { SessionView } from "./opensession.ts";
import type { Passing } from "./passing.ts";
import type { Prompts } from "./prompts.ts";
import type { SessionList } from "./sessionlist.ts";

/** Who is told. */
export interface FrameSurroundings {
  readonly list: SessionList;
  readonly passing: Passing;
  readonly prompts: Prompts;
  /** A session whose timeline is kept. */
  view(sessionId: string): SessionView | undefined;
  /** A session is gone, for everybody. */
  deleted(sessionId: string): void;
}

/**
 * Takes what has come.
 *
 * @returns False where text is missing: the snapshot of a new line brings it.
 */
export function takeFrames(to: FrameSurroundings, frames: readonly FollowFrame[]): boolean {
  let whole = true;
  const touched = new Set<SessionView>();
  batch(() => {
    for (const { event, transient, snapshot } of frames) {
      if (transient) {
        whole = to.passing.transient(transient) && whole;
      } else if (event) {
        whole = takeEvent(to, event, touched) && whole;
      } else if (snapshot) {
        to.passing.snapshot(snapshot);
        to.prompts.snapshot(snapshot);
      }
    }
    for (const view of touched) {
      view.flush();
    }
  });
  return whole;
}

function takeEvent(to: FrameSurroundings, event: Event, touched: Set<SessionView>): boolean {
  const sessionId = event.session_id ?? "";
  to.list.event(event);
  to.prompts.event(event);
  const whole = to.passing.event(event);
  if (event.session_deleted) {
    to.deleted(sessionId);
    return whole;
  }
  const view = to.view(sessionId);
  if (view) {
    view.event(event);
    touched.add(view);
  }
  return whole;
}

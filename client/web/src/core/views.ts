/** The sessions whose timelines are kept: the one on screen and those looked at just before. */

import { SessionView, type Surroundings } from "./opensession.ts";

const MAX_VIEWS = 5;

/** Sessions by their id, or by the request that opens them; the one looked at last is the last. */
export class Views {
  readonly #with: Surroundings;
  readonly #views = new Map<string, SessionView>();

  constructor(surroundings: Surroundings) {
    this.#with = surroundings;
  }

  get(key: string): SessionView | undefined {
    return this.#views.get(key);
  }

  /** A session to be shown; its page is fetched where it is not here. */
  show(sessionId: string, openId = ""): SessionView {
    const key = sessionId || openId;
    let view = this.#views.get(key);
    if (view === undefined) {
      view = new SessionView(this.#with, sessionId, openId);
      if (sessionId !== "") {
        void view.load();
      }
    }
    this.#views.delete(key);
    this.#views.set(key, view);
    for (const oldest of this.#views.keys()) {
      if (this.#views.size <= MAX_VIEWS) {
        break;
      }
      this.drop(oldest);
    }
    return view;
  }

  /** A new chat is open now; undefined where it is not kept. */
  opened(openId: string, sessionId: string): SessionView | undefined {
    const view = this.#views.get(openId);
    if (view !== undefined) {
      this.#views.delete(openId);
      this.drop(sessionId);
      this.#views.set(sessionId, view);
      view.opened(sessionId);
    }
    return view;
  }

  drop(key: string): void {
    const view = this.#views.get(key);
    this.#views.delete(key);
    view?.close();
  }

  /** Lets go of all sessions but one; chats that are being opened stay. */
  dropOthers(kept: SessionView | null): void {
    for (const [key, view] of [...this.#views]) {
      if (view !== kept && view.id) {
        this.drop(key);
      }
    }
  }

  close(): void {
    for (const key of [...this.#views.keys()]) {
      this.drop(key);
    }
  }
}

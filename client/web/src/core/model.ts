/**
 * What the core offers the components: signals to read, actions to call. The core folds the log into
 * these; components hold no state of a conversation.
 */
import type { ReadonlySignal } from "@preact/signals";

/** The line to the sidecar. `offline`: the browser has no network; `reconnecting`: it does not answer. */
export type Connection = "connecting" | "live" | "reconnecting" | "offline";

export interface SessionEntry {
  readonly id: string;
  /** Empty: none was set; the list shows "New chat". */
  readonly title: string;
  readonly state: "open" | "closing" | "closed";
  readonly createTime: Date;
  /** Sorts the list, the highest first. */
  readonly activity: number;
}

/** `sending` and `failed` are messages of this tab that are not in the log yet; `sent` are in it. */
export type Delivery = "sending" | "failed" | "sent";

interface ItemBase {
  /** Stable for the item's whole life: a stream and the message that completes it share one. */
  readonly key: string;
}

export interface MessageItem extends ItemBase {
  readonly kind: "message";
  readonly sender: "user" | "app";
  /** Grows while it streams. */
  readonly text: ReadonlySignal<string>;
  readonly streaming: ReadonlySignal<boolean>;
  readonly interrupted: ReadonlySignal<boolean>;
  readonly delivery: ReadonlySignal<Delivery>;
  /** Why it failed, a sentence; empty where it did not. */
  readonly problem: ReadonlySignal<string>;
  readonly createTime: Date | null;
}

export interface BlockItem extends ItemBase {
  readonly kind: "block";
  readonly blockId: string;
  readonly type: string;
  /** A JSON object; a new one whenever the block changes in place. */
  readonly payload: ReadonlySignal<Readonly<Record<string, unknown>>>;
}

/** A turn that did not complete. */
export interface EndedItem extends ItemBase {
  readonly kind: "ended";
  readonly how: "failed" | "stopped" | "unhandled";
  /** As `HANDLER_ERROR`, `DEADLINE`. */
  readonly reason: string;
  readonly referenceId: string;
}

export type TimelineEntry = MessageItem | BlockItem | EndedItem;

export interface StatusLine {
  readonly invocationId: string;
  readonly text: string;
  readonly detail: string;
}

/** The session on screen. */
export interface OpenSession {
  /** Stable for its whole life, also while a new chat is being opened: what components key it by. */
  readonly key: string;
  /** Empty while a new chat is being opened with its first message; `entry` tells when it is there. */
  readonly id: string;
  readonly entry: ReadonlySignal<SessionEntry>;
  readonly items: ReadonlySignal<readonly TimelineEntry[]>;
  /** True until the first page is there. */
  readonly loading: ReadonlySignal<boolean>;
  /** Whether older items are to be had. */
  readonly hasOlder: ReadonlySignal<boolean>;
  readonly loadingOlder: ReadonlySignal<boolean>;
  readonly statusLines: ReadonlySignal<readonly StatusLine[]>;
  /** What Stop would stop; empty: nothing runs or waits. */
  readonly busy: ReadonlySignal<boolean>;
  readonly stopping: ReadonlySignal<boolean>;
  loadOlder(): Promise<void>;
  /** Sends again a message that failed: with the same request id, unless that is forgotten. */
  resend(key: string): void;
  /** Takes a failed message out; its text is returned to be edited. */
  discard(key: string): string;
  stop(): Promise<void>;
  act(name: string, blockId: string, payload: unknown): Promise<void>;
}

export interface Notice {
  readonly id: number;
  readonly text: string;
  readonly bad: boolean;
}

export interface Chat {
  readonly app: string;
  readonly connection: ReadonlySignal<Connection>;
  /** Whether handlers of the app are attached: false shows "the app is offline; your message waits". null: not known yet. */
  readonly appOnline: ReadonlySignal<boolean | null>;
  /** `signed-out`: sign-in is needed and guests are not let in. `gone`: there is no such app. */
  readonly access: ReadonlySignal<"starting" | "ready" | "signed-out" | "gone">;
  /** In order, newest activity first; those that match `query` where it is set. */
  readonly sessions: ReadonlySignal<readonly SessionEntry[]>;
  readonly hasMoreSessions: ReadonlySignal<boolean>;
  readonly query: ReadonlySignal<string>;
  /** null: a new chat that is opened with its first message. */
  readonly current: ReadonlySignal<OpenSession | null>;
  readonly notices: ReadonlySignal<readonly Notice[]>;
  /** The text that is being written, of the session on screen; survives a reload. */
  readonly draft: ReadonlySignal<string>;
  /** UTF-8 bytes that a message may have. */
  readonly maxTextBytes: ReadonlySignal<number>;
  start(): Promise<void>;
  search(query: string): void;
  moreSessions(): Promise<void>;
  /** Shows a session, also by the location's hash. */
  open(sessionId: string): void;
  newChat(): void;
  rename(sessionId: string, title: string): Promise<void>;
  remove(sessionId: string): Promise<void>;
  setDraft(text: string): void;
  /** Sends text; opens a session first where none is on screen. Shows it at once as `sending`. */
  send(text: string): void;
  dismiss(noticeId: number): void;
}

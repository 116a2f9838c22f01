/**
 * What the core offers the components: signals to read, actions to call. The core folds the log into
 * these; components hold no state of a conversation.
 */
import type { ReadonlySignal } from "@preact/signals";
import type { Attachment } from "../wire.ts";
import type { Upload, Uploader } from "./uploads.ts";

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
  readonly attachments: ReadonlySignal<readonly Attachment[]>;
  readonly createTime: Date | null;
}

export interface BlockItem extends ItemBase {
  readonly kind: "block";
  readonly blockId: string;
  readonly type: string;
  /** A JSON object; a new one whenever the block changes in place. */
  readonly payload: ReadonlySignal<Readonly<Record<string, unknown>>>;
  /** The invocation that has shown it as it is now; empty: none. */
  readonly invocationId: ReadonlySignal<string>;
}

/** How an invocation has ended: by a person's Stop, or in any other way. Empty: it has not. */
export type WorkEnd = "" | "stopped" | "ended";

/** A turn that did not complete. */
export interface EndedItem extends ItemBase {
  readonly kind: "ended";
  readonly how: "failed" | "stopped" | "unhandled";
  /** As `HANDLER_ERROR`, `DEADLINE`. */
  readonly reason: string;
  readonly referenceId: string;
}

/** `open`: it waits for the person. The others are its end. */
export type PromptStatus = "open" | "answered" | "dismissed" | "expired" | "withdrawn";

/** What kind of answer a prompt wants. `unknown`: of a sidecar that is newer than this page. */
export type Question =
  | { readonly kind: "file"; readonly accept: string }
  | { readonly kind: "approval"; readonly approve: string; readonly reject: string }
  | { readonly kind: "choice"; readonly options: readonly string[] }
  | { readonly kind: "integration"; readonly name: string }
  | { readonly kind: "unknown" };

export type PromptAnswer =
  | { readonly kind: "file"; readonly file: Attachment }
  | { readonly kind: "approval"; readonly approved: boolean }
  | { readonly kind: "choice"; readonly option: number };

/** What a person may say to a prompt. */
export type PromptReply = PromptAnswer | { readonly kind: "dismiss" };

/** A question that the app waits with; after its end, what came of it. */
export interface PromptItem extends ItemBase {
  readonly kind: "prompt";
  readonly promptId: string;
  /** The invocation that waits with it. */
  readonly invocationId: string;
  /** Markdown. */
  readonly message: string;
  readonly question: Question;
  readonly createTime: Date | null;
  /** When it ends by itself, by the clock of this device. */
  readonly expireTime: Date | null;
  readonly status: ReadonlySignal<PromptStatus>;
  /** Set where it was answered. */
  readonly answer: ReadonlySignal<PromptAnswer | null>;
  /** What this tab has said and the sidecar has not taken yet. */
  readonly answering: ReadonlySignal<PromptReply | null>;
  /** Why this tab's answer could not be given, a sentence; empty where it could. */
  readonly problem: ReadonlySignal<string>;
  /** Whether this tab answered what had ended before: another answer counts. */
  readonly late: ReadonlySignal<boolean>;
  /** The file that this tab uploads to answer with it. */
  readonly upload: ReadonlySignal<Upload | null>;
}

export type TimelineEntry = MessageItem | BlockItem | EndedItem | PromptItem;

export interface StatusLine {
  readonly invocationId: string;
  readonly text: string;
  readonly detail: string;
}

/** The prompts of a session. */
export interface PromptActions {
  /** The prompts that wait for the person, in order; some may lie before what is loaded. */
  readonly waiting: ReadonlySignal<readonly PromptItem[]>;
  /** Answers or dismisses a prompt; the first answer of all devices counts. */
  answer(prompt: PromptItem, reply: PromptReply): Promise<void>;
  /** Gives the answer again that could not be given, under the same request id. */
  retry(prompt: PromptItem): Promise<void>;
  /** Uploads a file and answers with it; goes on while another session is on screen. */
  answerWithFile(prompt: PromptItem, file: File): void;
  /** Ends the upload, before it answers. */
  cancelUpload(prompt: PromptItem): void;
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
  readonly prompts: PromptActions;
  /** How an invocation has ended; read it inside of a computed. */
  over(invocationId: string): WorkEnd;
  loadOlder(): Promise<void>;
  /** Sends again a message that failed: with the same request id, unless that is forgotten. */
  resend(key: string): void;
  /** Takes a failed message out; its text is returned to be edited, its files are the draft's. */
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
  /** The sessions that wait for an answer of the person. */
  readonly waiting: ReadonlySignal<ReadonlySet<string>>;
  /** In order, newest activity first; those that match `query` where it is set. */
  readonly sessions: ReadonlySignal<readonly SessionEntry[]>;
  readonly hasMoreSessions: ReadonlySignal<boolean>;
  readonly query: ReadonlySignal<string>;
  /** null: a new chat that is opened with its first message. */
  readonly current: ReadonlySignal<OpenSession | null>;
  readonly notices: ReadonlySignal<readonly Notice[]>;
  /** The text that is being written, of the session on screen; survives a reload. */
  readonly draft: ReadonlySignal<string>;
  /** The files of that text; those uploaded survive a reload. */
  readonly attachments: ReadonlySignal<readonly Upload[]>;
  /** UTF-8 bytes that a message may have. */
  readonly maxTextBytes: ReadonlySignal<number>;
  /** Files that a message may carry. */
  readonly maxAttachments: ReadonlySignal<number>;
  /** Uploads of this tab, for whatever needs a file. */
  readonly uploader: Uploader;
  start(): Promise<void>;
  search(query: string): void;
  moreSessions(): Promise<void>;
  /** Shows a session, also by the location's hash. */
  open(sessionId: string): void;
  newChat(): void;
  rename(sessionId: string, title: string): Promise<void>;
  remove(sessionId: string): Promise<void>;
  setDraft(text: string): void;
  /** Attaches files to the draft, and begins to upload them. */
  attach(files: readonly File[]): void;
  /**
   * Takes a file off the draft.
   *
   * @param used - It has become a part of something else; one that has not is forgotten by the sidecar.
   */
  detach(key: string, used?: boolean): void;
  /** Tells the person of something that did not work. */
  tell(text: string): void;
  /** Returns another signed address of a file. Throws where there is none. */
  fileUrl(fileId: string): Promise<string>;
  /**
   * Sends text with what is attached, unless that is not all uploaded; opens a session first where
   * none is on screen. Shows it at once as `sending`.
   *
   * @param alone - The text is not the draft: that stays, and so do its files.
   */
  send(text: string, alone?: boolean): void;
  dismiss(noticeId: number): void;
}

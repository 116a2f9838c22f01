/**
 * The files of what is being written, by chat: those on their way and those that are there. What was
 * uploaded survives a reload, as long as the sidecar keeps a file that nothing uses; what was not is
 * told of.
 */

import { computed, effect, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Attachment } from "../wire.ts";
import { NEW } from "./drafts.ts";
import type { Env, KeyStore } from "./env.ts";
import { quoted } from "./notices.ts";
import { tooLarge, type Upload, type Uploader, type UploadState } from "./uploads.ts";

/** The sidecar keeps an unused file for 24 hours; an hour less, whatever its clock says. */
const KEPT_MS = 23 * 3_600_000;

const LOST: UploadState = {
  kind: "failed",
  problem: "It is gone. Please attach it again.",
  retryable: false,
};

/** What the files of drafts work with. */
export interface DraftFilesSurroundings {
  readonly env: Env;
  readonly app: string;
  readonly uploader: Uploader;
  readonly maxFileBytes: ReadonlySignal<number>;
  /** Files that a message may carry. */
  readonly maxAttachments: ReadonlySignal<number>;
  /** Tells the person of something. */
  notice(text: string): void;
}

interface Kept extends Attachment {
  /** When it was uploaded, in milliseconds. */
  readonly time: number;
}

interface Chat {
  readonly files: Signal<readonly Upload[]>;
  /** Ends what writes them down. */
  readonly end: () => void;
}

/** The files of all drafts of an app, in this tab. */
export class DraftFiles {
  readonly #with: DraftFilesSurroundings;
  readonly #prefix: string;
  readonly #pendingKey: string;
  readonly #chats = new Map<string, Chat>();
  /** When files were uploaded, by their ids. */
  readonly #times = new Map<string, number>();

  constructor(surroundings: DraftFilesSurroundings) {
    this.#with = surroundings;
    this.#prefix = `capsule:${surroundings.app}:files:`;
    this.#pendingKey = `capsule:${surroundings.app}:uploading`;
  }

  /** Tells of what an earlier life of the tab has left unfinished, and clears what is too old. */
  load(): void {
    const { env } = this.#with;
    const names = strings(env.tab.get(this.#pendingKey));
    env.tab.remove(this.#pendingKey);
    if (names.length > 0) {
      const what =
        names.length === 1 ? `${quoted(names[0] ?? "")} was` : `${names.length} files were`;
      this.#with.notice(`${what} not uploaded when the page was left. Please attach again.`);
    }
    for (const [store, key] of this.#stored()) {
      if (this.#read(store, key).length === 0) {
        store.remove(key);
      }
    }
  }

  /** The files of a chat's draft. */
  of(chat: string): ReadonlySignal<readonly Upload[]> {
    return this.#chat(chat).files;
  }

  /** Takes files, and begins to upload them; tells of those that it cannot take. */
  add(chat: string, sources: readonly File[]): readonly Upload[] {
    const { uploader, maxFileBytes, maxAttachments, notice } = this.#with;
    const { files } = this.#chat(chat);
    const max = maxFileBytes.peek();
    const large = sources.filter((source) => source.size > max);
    for (const source of large.slice(0, 3)) {
      notice(`${quoted(source.name)} was not attached. ${tooLarge(max)}`);
    }
    const most = maxAttachments.peek();
    const room = Math.max(0, most - files.peek().length);
    const fitting = sources.filter((source) => source.size <= max);
    if (fitting.length > room) {
      const left = fitting.length - room;
      const were = left === 1 ? "1 was" : `${left} were`;
      notice(`A message can carry ${most} files: ${were} not attached.`);
    }
    const added = fitting.slice(0, room).map((source) => uploader.add(source));
    files.value = [...files.peek(), ...added];
    return added;
  }

  /**
   * Puts the files of a message behind those that are there.
   *
   * @param message - Its `lost` is the file that the sidecar keeps no longer.
   */
  put(chat: string, message: { attachments: readonly Attachment[]; lost: string }): void {
    const { files } = this.#chat(chat);
    const there = new Set(files.peek().map(({ key }) => key));
    const others = message.attachments.filter(({ file_id: id = "" }) => !there.has(id));
    const uploads = others.map((each) =>
      each.file_id === message.lost ? { ...uploaded(each), state: signal(LOST) } : uploaded(each),
    );
    files.value = [...files.peek(), ...uploads];
  }

  /** @param used - Whether something else carries the file now; the sidecar forgets it otherwise. */
  remove(chat: string, key: string, used: boolean): void {
    const { uploader } = this.#with;
    const { files } = this.#chat(chat);
    for (const upload of files.peek().filter((each) => each.key === key)) {
      uploader.cancel(upload);
      const state = upload.state.peek();
      if (state.kind === "done" && state.file.file_id && !used) {
        uploader.forget(state.file.file_id);
      }
    }
    files.value = files.peek().filter((each) => each.key !== key);
  }

  /**
   * What a message would carry now.
   *
   * @returns null where something is not uploaded (yet).
   */
  attached(chat: string): readonly Attachment[] | null {
    const out: Attachment[] = [];
    for (const { state } of this.#chat(chat).files.peek()) {
      const now = state.peek();
      if (now.kind !== "done") {
        return null;
      }
      out.push(attachmentOf(now.file));
    }
    return out;
  }

  /** The draft was sent, or is wanted no more: uploads of it end. */
  clear(chat: string): void {
    const { files } = this.#chat(chat);
    for (const upload of files.peek()) {
      this.#with.uploader.cancel(upload);
    }
    files.value = [];
  }

  /** Somebody else is signed in, whose files these are not. */
  clearAll(): void {
    for (const [store, key] of this.#stored()) {
      store.remove(key);
    }
    for (const chat of this.#chats.keys()) {
      this.clear(chat);
    }
  }

  /** Moves the files to another chat, behind those that are there. */
  move(from: string, to: string): void {
    const moved = this.#chat(from).files;
    const { files } = this.#chat(to);
    files.value = [...files.peek(), ...moved.peek()];
    moved.value = [];
  }

  close(): void {
    for (const { end } of this.#chats.values()) {
      end();
    }
  }

  /** The keys that files are under, and where. */
  #stored(): [KeyStore, string][] {
    const { shared, tab } = this.#with.env;
    return [shared, tab].flatMap((store) =>
      store
        .keys()
        .filter((key) => key.startsWith(this.#prefix))
        .map((key): [KeyStore, string] => [store, key]),
    );
  }

  #chat(chat: string): Chat {
    let found = this.#chats.get(chat);
    if (found === undefined) {
      const { env } = this.#with;
      const store = chat === NEW ? env.tab : env.shared;
      const key = this.#prefix + chat;
      const files = signal<readonly Upload[]>(this.#read(store, key).map(uploaded));
      const kept = computed(() => JSON.stringify(this.#kept(files.value)));
      const pending = computed(() => files.value.filter(isPending).length);
      let first = true;
      const endKept = effect(() => {
        const { value } = kept;
        if (value === "[]") {
          store.remove(key);
        } else if (!first) {
          store.set(key, value); // A store that is full costs the promise, not the files.
        }
        first = false;
      });
      const endPending = effect(() => {
        if (pending.value >= 0) {
          this.#keepPending();
        }
      });
      const end = () => {
        endKept();
        endPending();
      };
      found = { files, end };
      this.#chats.set(chat, found);
    }
    return found;
  }

  /** Writes down what would be lost with the page. */
  #keepPending(): void {
    const all = [...this.#chats.values()].flatMap(({ files }) => files.peek());
    const names = all.filter((each) => each.state.peek().kind !== "done").map(({ name }) => name);
    const { tab } = this.#with.env;
    if (names.length > 0) {
      tab.set(this.#pendingKey, JSON.stringify(names));
    } else {
      tab.remove(this.#pendingKey);
    }
  }

  #kept(uploads: readonly Upload[]): Kept[] {
    const out: Kept[] = [];
    for (const { state } of uploads) {
      if (state.value.kind === "done") {
        const attachment = attachmentOf(state.value.file);
        const id = attachment.file_id ?? "";
        const time = this.#times.get(id) ?? this.#with.env.now();
        this.#times.set(id, time);
        out.push({ ...attachment, time });
      }
    }
    return out;
  }

  /** What is on disk under a key and is still good. */
  #read(store: KeyStore, key: string): Kept[] {
    const now = this.#with.env.now();
    const all = attachmentsOf(list(store.get(key)));
    const good = all.filter(({ time }) => Math.abs(now - time) < KEPT_MS);
    for (const { file_id: id = "", time } of good) {
      this.#times.set(id, time);
    }
    return good;
  }
}

function isPending({ state }: Upload): boolean {
  return state.value.kind !== "done";
}

/** What a message says of a file. */
export function attachmentOf(file: Attachment): Attachment {
  const { file_id = "", name = "", content_type = "", size = "0", url = "" } = file;
  return { file_id, name, content_type, size, url };
}

/** An upload that is done. */
function uploaded(attachment: Attachment): Upload {
  const file = attachmentOf(attachment);
  return {
    key: file.file_id ?? "",
    name: file.name ?? "",
    contentType: file.content_type ?? "",
    size: Number(file.size),
    source: null,
    state: signal({ kind: "done", file }),
  };
}

/** What was written down of files; whatever else is there is left out. */
export function attachmentsOf(value: unknown): Kept[] {
  return (Array.isArray(value) ? (value as unknown[]) : []).flatMap((each) => {
    const said = (each ?? {}) as Partial<Record<keyof Kept, unknown>>;
    const text = (one: unknown) => (typeof one === "string" ? one : "");
    if (text(said.file_id) === "") {
      return [];
    }
    return [
      {
        file_id: text(said.file_id),
        name: text(said.name),
        content_type: text(said.content_type),
        size: text(said.size) || "0",
        url: text(said.url),
        time: typeof said.time === "number" ? said.time : 0,
      },
    ];
  });
}

function strings(value: string | null): string[] {
  return list(value).filter((each) => typeof each === "string");
}

function list(value: string | null): unknown[] {
  try {
    const said: unknown = JSON.parse(value ?? "[]");
    return Array.isArray(said) ? said : [];
  } catch {
    return []; // Written by something else.
  }
}

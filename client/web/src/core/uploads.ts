/**
 * Uploads of this tab: a few at a time, each under one request id, so that what is repeated after a
 * cut is one file. Who adds a file decides what it is for.
 */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { File as StoredFile } from "../wire.ts";
import { type Api, ApiError } from "./api.ts";
import { report } from "./defect.ts";
import type { Env } from "./env.ts";
import { delay, Waiting } from "./waiting.ts";

/** Uploads that are on the line at once. */
const MAX_AT_ONCE = 3;
/** So often it is tried while the browser has a network; then the person, or a new line, decides. */
const MAX_TRIES = 8;

/** How far an upload is. */
export type UploadState =
  | { readonly kind: "queued" }
  /** `progress`: from 0 to 1. `waiting`: the line was cut, it goes on by itself. */
  | { readonly kind: "uploading"; readonly progress: number; readonly waiting: boolean }
  | { readonly kind: "done"; readonly file: StoredFile }
  /** `problem`: a sentence. */
  | { readonly kind: "failed"; readonly problem: string; readonly retryable: boolean };

/** A file on its way, or one that is there. */
export interface Upload {
  /** Its request id. */
  readonly key: string;
  readonly name: string;
  /** A media type; empty where the browser knows none. */
  readonly contentType: string;
  /** Bytes. */
  readonly size: number;
  /** What is uploaded; null where it was uploaded in an earlier life of the page. */
  readonly source: Blob | null;
  readonly state: ReadonlySignal<UploadState>;
}

/** What uploads work with. */
export interface UploadSurroundings {
  readonly env: Env;
  readonly api: Api;
  /** Bytes that a file may have. */
  readonly maxFileBytes: ReadonlySignal<number>;
  /** Nobody is signed in: returns when somebody is. */
  signIn(): Promise<void>;
}

interface Job {
  readonly upload: Upload;
  readonly source: Blob;
  readonly state: Signal<UploadState>;
  readonly stop: AbortController;
  running: boolean;
  /** Whether the line was why it failed: it is tried again when that is back. */
  cut: boolean;
}

/** The uploads of a tab. */
export class Uploader {
  readonly #with: UploadSurroundings;
  readonly #waiting: Waiting;
  /** Those that are not done, in order. */
  readonly #jobs = new Map<string, Job>();
  #running = 0;

  constructor(surroundings: UploadSurroundings) {
    this.#with = surroundings;
    this.#waiting = new Waiting(surroundings.env);
  }

  /**
   * Takes a file and begins to upload it, as soon as it is its turn.
   *
   * @param name - What it is called; the file's own name where it is not said.
   * @returns The upload; `failed` at once where the file is too large.
   */
  add(source: Blob, name = source instanceof File ? source.name : ""): Upload {
    const max = this.#with.maxFileBytes.peek();
    const state = signal<UploadState>({ kind: "queued" });
    const upload: Upload = {
      key: this.#with.env.uuid(),
      name: name || "file",
      contentType: source.type,
      size: source.size,
      source,
      state,
    };
    if (source.size > max) {
      state.value = { kind: "failed", problem: tooLarge(max), retryable: false };
      return upload;
    }
    const stop = new AbortController();
    this.#jobs.set(upload.key, { upload, source, state, stop, running: false, cut: false });
    this.#drive();
    return upload;
  }

  /** Tries again what failed and may succeed, under the same request id. */
  retry(upload: Upload): void {
    const job = this.#jobs.get(upload.key);
    const state = job?.state.peek();
    if (job && state?.kind === "failed" && state.retryable) {
      job.state.value = { kind: "queued" };
      job.cut = false;
      this.#drive();
    }
  }

  /** Ends an upload, however far it is; what has arrived of it is forgotten by the sidecar. */
  cancel(upload: Upload): void {
    this.#jobs.get(upload.key)?.stop.abort();
    this.#jobs.delete(upload.key);
  }

  /**
   * Has the sidecar forget a file that nothing will carry, so that it takes none of the person's room.
   * Nobody is told where that fails: it is forgotten by itself a day later.
   */
  forget(fileId: string): void {
    void this.#with.api.removeFile(fileId).catch((error: unknown) => {
      if (!(error instanceof ApiError)) {
        report(error); // A defect.
      }
    });
  }

  /** The line is there: what waits for it goes on at once. */
  wake(): void {
    for (const { upload, cut } of [...this.#jobs.values()]) {
      if (cut) {
        this.retry(upload);
      }
    }
    this.#waiting.wake();
  }

  close(): void {
    for (const { upload } of [...this.#jobs.values()]) {
      this.cancel(upload);
    }
  }

  #drive(): void {
    for (const job of this.#jobs.values()) {
      if (this.#running >= MAX_AT_ONCE) {
        return;
      }
      if (!job.running && job.state.peek().kind === "queued") {
        this.#running += 1;
        job.running = true;
        this.#run(job)
          .catch((error: unknown) => {
            if (!job.stop.signal.aborted) {
              report(error); // A defect.
            }
          })
          .finally(() => {
            this.#running -= 1;
            job.running = false;
            this.#drive();
          });
      }
    }
  }

  async #run(job: Job): Promise<void> {
    const { env } = this.#with;
    const { signal: stopped } = job.stop;
    for (let tries = 1; !stopped.aborted; tries++) {
      let error: ApiError;
      try {
        const file = await this.#once(job);
        this.#jobs.delete(job.upload.key);
        job.state.value = { kind: "done", file };
        return;
      } catch (thrown) {
        stopped.throwIfAborted();
        if (!(thrown instanceof ApiError)) {
          this.#fail(job, "Something went wrong.", true);
          throw thrown;
        }
        error = thrown;
      }
      if (error.status === 401) {
        await this.#with.signIn();
      } else if (!error.passing) {
        this.#fail(job, refusal(error, this.#with.maxFileBytes.peek()), error.status >= 500);
        return;
      } else if (error.status === 0 && !(await isReadable(job.source))) {
        this.#fail(job, "The file cannot be read any more.", false);
        return;
      }
      if (tries >= MAX_TRIES && env.online()) {
        job.cut = error.status === 0;
        this.#fail(job, error.sentence, true);
        return;
      }
      job.state.value = { kind: "uploading", progress: progressOf(job), waiting: true };
      await this.#waiting.wait(delay(tries - 1, env.random(), error.retryAfterMs), stopped);
    }
  }

  async #once(job: Job): Promise<StoredFile> {
    const { api } = this.#with;
    const { upload, source, state } = job;
    state.value = { kind: "uploading", progress: 0, waiting: false };
    const told = (sent: number) => {
      if (state.peek().kind === "uploading" && !job.stop.signal.aborted) {
        const progress = upload.size > 0 ? Math.min(1, sent / upload.size) : 1;
        state.value = { kind: "uploading", progress, waiting: false };
      }
    };
    return await api.upload(source, upload.name, upload.key, told, job.stop.signal);
  }

  #fail(job: Job, problem: string, retryable: boolean): void {
    if (!retryable) {
      this.#jobs.delete(job.upload.key);
    }
    job.state.value = { kind: "failed", problem, retryable };
  }
}

function progressOf({ state }: Job): number {
  const at = state.peek();
  return at.kind === "uploading" ? at.progress : 0;
}

/** What a person is told of a file that is too large. */
export function tooLarge(maxBytes: number): string {
  const mib = maxBytes / 1_048_576;
  const most = mib >= 1 ? `${Math.floor(mib)} MiB` : `${Math.floor(maxBytes / 1024)} KiB`;
  return `The file is too large: ${most} are possible.`;
}

function refusal(error: ApiError, maxBytes: number): string {
  // A proxy's answer says nothing of its own.
  return error.status === 413 && error.reason === "" ? tooLarge(maxBytes) : error.sentence;
}

/** Whether it is still there: a file that was moved or changed fails as a line that is cut. */
async function isReadable(source: Blob): Promise<boolean> {
  try {
    await source.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

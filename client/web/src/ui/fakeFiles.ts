/** Files of the made-up chat; not part of the build. `vite.config.ts` serves `/files/fake/`. */
import { type Signal, signal } from "@preact/signals";
import { Api } from "../core/api.ts";
import { browserEnv } from "../core/env.ts";
import { type Upload, Uploader, type UploadState } from "../core/uploads.ts";
import type { Attachment } from "../wire.ts";

let made = 0;

/** Makes a file that is there. */
export function attachment(name: string, type: string, size: number): Attachment {
  made += 1;
  const url = `/files/fake/${encodeURIComponent(name)}?expires=9999999999&signature=made-up`;
  return { file_id: `fil_${made}`, name, content_type: type, size: String(size), url };
}

function upload(name: string, contentType: string, size: number, state: UploadState): Upload {
  made += 1;
  return { key: `u${made}`, name, contentType, size, source: null, state: signal(state) };
}

/** Uploads in every state. */
export function uploads(): readonly Upload[] {
  const file = attachment("harbour.png", "image/png", 48_213);
  const uploading = { kind: "uploading", progress: 0.42, waiting: false } as const;
  const problem = "The server answered 500.";
  return [
    upload("harbour.png", "image/png", 48_213, { kind: "done", file }),
    upload("Quarterly report, final version (2).pdf", "application/pdf", 7_340_032, uploading),
    upload("talk.mp4", "video/mp4", 88_000_000, { ...uploading, progress: 0.8, waiting: true }),
    upload("notes.txt", "text/plain", 812, { kind: "failed", problem, retryable: true }),
    upload("archive.tar.gz", "application/gzip", 2_097_152, { kind: "queued" }),
  ];
}

/** Uploads go nowhere, in two seconds; a name with "bad" in it is refused. */
export function fakeUploader(): Uploader {
  const env = { ...browserEnv(), upload: fakeUpload };
  return new Uploader({
    env,
    api: new Api(env, "demo"),
    maxFileBytes: signal(100 * 1_048_576),
    signIn: async () => undefined,
  });
}

async function fakeUpload(
  _address: string,
  form: FormData,
  told: (sent: number) => void,
  aborted: AbortSignal,
): Promise<Response> {
  const part = form.get("file") as File;
  for (let step = 0; step < 20; step++) {
    await new Promise((done) => setTimeout(done, 100));
    aborted.throwIfAborted();
    told((part.size * step) / 20);
  }
  if (part.name.includes("bad")) {
    return new Response(JSON.stringify({ detail: "The disk is full." }), { status: 507 });
  }
  const file = attachment(part.name, part.type, part.size);
  return new Response(JSON.stringify({ file }));
}

/** The files of the made-up draft. */
export class FakeFiles {
  readonly attachments: Signal<readonly Upload[]> = signal([]);

  constructor(readonly uploader: Uploader) {}

  attach(files: readonly File[]): void {
    const added = files.map((file) => this.uploader.add(file));
    this.attachments.value = [...this.attachments.value, ...added];
  }

  detach(key: string): void {
    this.attachments.value = this.attachments.value.filter((each) => each.key !== key);
  }

  /** Returns what a message would carry, and lets go of it. */
  take(): Attachment[] {
    const all = this.attachments.value.map(({ state }) => state.value);
    this.attachments.value = [];
    return all.flatMap((state) => (state.kind === "done" ? [state.file] : []));
  }
}

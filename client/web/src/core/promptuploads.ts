/** Answers file prompts: uploads what was chosen and answers with it, also while nobody looks. */

import { effect } from "@preact/signals";
import { type AnswerSurroundings, answerPrompt } from "./promptanswers.ts";
import type { PromptEntry } from "./prompts.ts";
import type { Uploader } from "./uploads.ts";

/** What uploading needs of its surroundings. */
export interface FileSurroundings extends AnswerSurroundings {
  readonly uploader: Uploader;
}

/** Uploads a file, in place of one that was chosen before, and answers the prompt with it. */
export function answerWithFile(
  surroundings: FileSurroundings,
  entry: PromptEntry,
  file: File,
): void {
  if (entry.status.peek() !== "open" || entry.answering.peek() !== null) {
    return;
  }
  cancelUpload(surroundings, entry);
  entry.problem.value = "";
  const upload = surroundings.uploader.add(file);
  entry.upload.value = upload;
  const end = effect(() => {
    const state = upload.state.value;
    if (entry.upload.value !== upload) {
      queueMicrotask(() => end()); // Cancelled, or another one was chosen.
    } else if (entry.status.value !== "open") {
      queueMicrotask(() => {
        end();
        cancelUpload(surroundings, entry);
      });
    } else if (state.kind === "done") {
      queueMicrotask(() => {
        end();
        void answered(surroundings, entry, state.file);
      });
    }
  });
}

/** Ends the upload for a prompt, where there is one. */
export function cancelUpload({ uploader }: FileSurroundings, entry: PromptEntry): void {
  const upload = entry.upload.peek();
  if (upload) {
    entry.upload.value = null;
    uploader.cancel(upload);
  }
}

async function answered(
  surroundings: FileSurroundings,
  entry: PromptEntry,
  file: { readonly file_id?: string },
): Promise<void> {
  await answerPrompt(surroundings, entry, { kind: "file", file });
  if (entry.status.peek() !== "open") {
    entry.upload.value = null;
  }
}

/** The prompts of one session: which of them wait, and how they are answered. */

import { computed, type ReadonlySignal } from "@preact/signals";
import type { PromptActions, PromptItem, PromptReply } from "./model.ts";
import { answerPrompt } from "./promptanswers.ts";
import { PromptEntry } from "./prompts.ts";
import { answerWithFile, cancelUpload, type FileSurroundings } from "./promptuploads.ts";

/** What a session does with its prompts. */
export class SessionPrompts implements PromptActions {
  readonly waiting: ReadonlySignal<readonly PromptEntry[]>;
  readonly #with: FileSurroundings;
  #asked: readonly PromptEntry[] = [];

  /** @param id - The session's; empty while it is being opened. */
  constructor(surroundings: FileSurroundings, id: ReadonlySignal<string>) {
    this.#with = surroundings;
    this.waiting = computed(() => this.#open(id.value));
  }

  async answer(prompt: PromptItem, reply: PromptReply): Promise<void> {
    if (prompt instanceof PromptEntry) {
      await answerPrompt(this.#with, prompt, reply);
    }
  }

  async retry(prompt: PromptItem): Promise<void> {
    if (prompt instanceof PromptEntry && prompt.tried) {
      await this.answer(prompt, prompt.tried.reply);
    }
  }

  answerWithFile(prompt: PromptItem, file: File): void {
    if (prompt instanceof PromptEntry) {
      answerWithFile(this.#with, prompt, file);
    }
  }

  cancelUpload(prompt: PromptItem): void {
    if (prompt instanceof PromptEntry) {
      cancelUpload(this.#with, prompt);
    }
  }

  /** The open prompts; the same list as before where nothing has changed. */
  #open(id: string): readonly PromptEntry[] {
    const open = id === "" ? [] : this.#with.prompts.openOf(id);
    const same = open.length === this.#asked.length && open.every((p, i) => p === this.#asked[i]);
    this.#asked = same ? this.#asked : open;
    return this.#asked;
  }
}

/**
 * The prompts that wait for the person, in all of their sessions: one may lie before what is loaded
 * of its session, and the list shows which sessions wait. A prompt is one object wherever it is
 * shown, so that an answer is given once and its end is seen everywhere.
 */

import { batch, computed, type ReadonlySignal, signal } from "@preact/signals";
import type { Attachment, Event, OpenPrompt, Prompt, Snapshot } from "../wire.ts";
import { before, int, type Placed, time } from "./items.ts";
import type { PromptAnswer, PromptItem, PromptReply, PromptStatus, Question } from "./model.ts";
import type { Upload } from "./uploads.ts";

/** More open prompts of one person than this are not kept; those loaded are shown all the same. */
const MAX_OPEN = 2_000;

const STATUSES: Readonly<Record<string, PromptStatus>> = {
  PROMPT_STATUS_ANSWERED: "answered",
  PROMPT_STATUS_DISMISSED: "dismissed",
  PROMPT_STATUS_EXPIRED: "expired",
  PROMPT_STATUS_WITHDRAWN: "withdrawn",
};

/** A prompt. It changes once: it ends. */
export class PromptEntry implements PromptItem, Placed {
  readonly kind = "prompt" as const;
  readonly key: string;
  readonly promptId: string;
  readonly message: string;
  readonly question: Question;
  readonly createTime: Date | null;
  readonly expireTime: Date | null;
  readonly status = signal<PromptStatus>("open");
  readonly answer = signal<PromptAnswer | null>(null);
  readonly answering = signal<PromptReply | null>(null);
  readonly problem = signal("");
  readonly late = signal(false);
  readonly upload = signal<Upload | null>(null);
  /** The last answer that this tab tried, and its request. */
  tried: { readonly reply: PromptReply; readonly requestId: string } | null = null;
  place = 0;
  offset = 0;
  asOf = 0;

  /** @param skew - Milliseconds by which the sidecar's clock is ahead of this device's. */
  constructor(
    prompt: Prompt,
    readonly sessionId: string,
    readonly invocationId: string,
    skew = 0,
  ) {
    this.promptId = prompt.prompt_id ?? "";
    this.key = `prompt:${this.promptId}`;
    this.message = prompt.message ?? "";
    this.question = questionOf(prompt);
    this.createTime = time(prompt.create_time);
    const ends = time(prompt.expire_time);
    this.expireTime = ends && new Date(ends.getTime() - skew);
    this.take(prompt);
  }

  /** Takes the prompt as it was told: once it has ended, nothing makes it open again. */
  take(prompt: Prompt): void {
    const status = STATUSES[prompt.status ?? ""];
    if (status === undefined || this.status.peek() !== "open") {
      return;
    }
    batch(() => {
      this.answer.value = status === "answered" ? answerOf(prompt) : null;
      this.status.value = status;
      this.problem.value = "";
    });
  }
}

/** What an event or a snapshot says of where a prompt is. */
interface At {
  readonly place: number;
  readonly offset: number;
}

/** The open prompts. */
export class Prompts {
  readonly #open = new Map<string, PromptEntry>();
  /** Those that were open before everything was loaded anew, and were not told of since. */
  readonly #doubted = new Set<string>();
  readonly #all = signal<readonly PromptEntry[]>([]);
  readonly #skew: () => number;

  /** The sessions that wait for an answer. */
  readonly waiting: ReadonlySignal<ReadonlySet<string>> = computed(
    () => new Set(this.#all.value.map((each) => each.sessionId)),
  );

  /** @param skew - See {@link PromptEntry}. */
  constructor(skew: () => number = () => 0) {
    this.#skew = skew;
  }

  /** The open prompts of a session, in the order of its timeline; read it inside of a computed. */
  openOf(sessionId: string): readonly PromptEntry[] {
    const found = this.#all.value.filter((each) => each.sessionId === sessionId);
    return found.sort((a, b) => (before(a, b) ? -1 : 1));
  }

  /**
   * Takes a prompt as it was told, and returns what stands for it.
   *
   * @param known - What stands for it where it is not open; undefined: nothing yet.
   */
  take(
    prompt: Prompt,
    sessionId: string,
    invocationId: string,
    at: At,
    known?: PromptEntry,
  ): PromptEntry {
    const id = prompt.prompt_id ?? "";
    this.#doubted.delete(id);
    let entry = this.#open.get(id) ?? known;
    if (entry) {
      entry.take(prompt);
    } else {
      entry = new PromptEntry(prompt, sessionId, invocationId, this.#skew());
      entry.place = at.place;
      entry.offset = at.offset;
    }
    this.#keep(entry);
    return entry;
  }

  /** Takes an event of any session. */
  event(event: Event): void {
    const sessionId = event.session_id ?? "";
    if (event.session_deleted) {
      this.forget(sessionId);
      return;
    }
    const prompt = event.prompt_opened?.prompt ?? event.prompt_ended?.prompt;
    if (prompt) {
      const at = { place: int(event.place), offset: int(event.item_offset) };
      this.take(prompt, sessionId, event.invocation_id ?? "", at);
    }
  }

  /**
   * Takes a frame of a snapshot. The events before it told of every end, but for those that were
   * missed where everything was loaded anew: of what was open before that, it tells what still is.
   */
  snapshot(part: Snapshot): void {
    batch(() => {
      for (const open of part.prompts ?? []) {
        this.#found(open);
      }
      if (part.last && this.#doubted.size > 0) {
        for (const id of this.#doubted) {
          this.#open.delete(id);
        }
        this.#doubted.clear();
        this.#tell();
      }
    });
  }

  /**
   * Everything is loaded anew: another log, another person, or only the list that came later than
   * the page. What is open stays what stands for it, and on screen, until the snapshot is there.
   */
  doubt(): void {
    for (const id of this.#open.keys()) {
      this.#doubted.add(id);
    }
  }

  forget(sessionId: string): void {
    for (const [id, entry] of this.#open) {
      if (entry.sessionId === sessionId) {
        this.#open.delete(id);
      }
    }
    this.#tell();
  }

  #found(open: OpenPrompt): void {
    const at = { place: int(open.place), offset: int(open.offset) };
    if (open.prompt) {
      this.take(open.prompt, open.session_id ?? "", open.invocation_id ?? "", at);
    }
  }

  #keep(entry: PromptEntry): void {
    const open = entry.status.peek() === "open";
    if (open === this.#open.has(entry.promptId)) {
      return;
    }
    if (!open) {
      this.#open.delete(entry.promptId);
    } else if (this.#open.size < MAX_OPEN) {
      this.#open.set(entry.promptId, entry);
    }
    this.#tell();
  }

  #tell(): void {
    if (this.#open.size > 0 || this.#all.peek().length > 0) {
      this.#all.value = [...this.#open.values()];
    }
  }
}

function questionOf(prompt: Prompt): Question {
  const { file, approval, choice, integration } = prompt;
  if (file) {
    return { kind: "file", accept: file.accept ?? "" };
  }
  if (approval) {
    const { approve_label: approve = "Approve", reject_label: reject = "Reject" } = approval;
    return { kind: "approval", approve, reject };
  }
  if (choice) {
    return { kind: "choice", options: choice.options ?? [] };
  }
  return integration ? { kind: "integration", name: integration.type ?? "" } : { kind: "unknown" };
}

/** The answer of an answered prompt. What JSON leaves out is the proto's zero, which is an answer. */
function answerOf(prompt: Prompt): PromptAnswer | null {
  const { file, approval, choice } = prompt;
  if (file) {
    const answer: Attachment = file.answer ?? {};
    return { kind: "file", file: answer };
  }
  if (approval) {
    return { kind: "approval", approved: approval.answer === true };
  }
  return choice ? { kind: "choice", option: choice.answer ?? 0 } : null;
}

/** Made-up prompts, and what answers them; not part of the build. */
import { computed, type ReadonlySignal, signal } from "@preact/signals";
import type { PromptActions, PromptItem, PromptReply, TimelineEntry } from "../core/model.ts";
import { PromptEntry } from "../core/prompts.ts";
import type { Uploader } from "../core/uploads.ts";
import type { Prompt } from "../wire.ts";
import { PICTURE } from "./fakeData.ts";

let made = 0;

/** Makes a prompt that ends in so many seconds. */
export function prompt(more: Prompt, seconds = 290): PromptEntry {
  made += 1;
  const at = (ms: number) => new Date(Date.now() + ms).toISOString();
  return new PromptEntry(
    {
      prompt_id: `prm_${made}`,
      create_time: at(-5000),
      expire_time: at(seconds * 1000),
      status: "PROMPT_STATUS_OPEN",
      ...more,
    },
    "ses_0",
    "i1",
  );
}

/** The prompts of a made-up session: an answer takes a moment. */
export class FakePrompts implements PromptActions {
  /** Open prompts that are not among the items. */
  readonly before = signal<readonly PromptEntry[]>([]);
  readonly waiting: ReadonlySignal<readonly PromptEntry[]>;

  constructor(
    items: ReadonlySignal<readonly TimelineEntry[]>,
    private readonly uploader: Uploader,
  ) {
    this.waiting = computed(() =>
      [...this.before.value, ...items.value].filter(
        (item): item is PromptEntry => item instanceof PromptEntry && item.status.value === "open",
      ),
    );
  }

  async answer(item: PromptItem, reply: PromptReply): Promise<void> {
    if (!(item instanceof PromptEntry) || item.answering.value) return;
    item.answering.value = reply;
    item.problem.value = "";
    await new Promise((done) => setTimeout(done, 900));
    item.answering.value = null;
    if (item.message.includes("in vain") && !item.tried) {
      item.problem.value = "The server cannot be reached.";
      item.tried = { reply, requestId: "" };
      return;
    }
    if (reply.kind === "dismiss") item.status.value = "dismissed";
    else {
      item.answer.value = reply;
      item.status.value = "answered";
    }
  }

  async retry(item: PromptItem): Promise<void> {
    if (item instanceof PromptEntry && item.tried) await this.answer(item, item.tried.reply);
  }

  answerWithFile(item: PromptItem, file: File): void {
    if (!(item instanceof PromptEntry)) return;
    const upload = this.uploader.add(file);
    item.upload.value = upload;
    const end = upload.state.subscribe((state) => {
      if (state.kind !== "done") return;
      queueMicrotask(() => end());
      void this.answer(item, { kind: "file", file: state.file });
    });
  }

  cancelUpload(item: PromptItem): void {
    if (item instanceof PromptEntry && item.upload.value) {
      this.uploader.cancel(item.upload.value);
      item.upload.value = null;
    }
  }
}

const CITIES = ["Aarhus", "Berlin", "Cádiz", "Dublin", "Essen", "Faro", "Ghent", "Helsinki"];

export const ask = {
  file: (seconds?: number) =>
    prompt(
      {
        message: "Please upload the **signed contract**, as a PDF or as pictures of its pages.",
        file: { accept: ".pdf,image/*" },
      },
      seconds,
    ),
  approval: (seconds?: number) =>
    prompt(
      {
        message:
          "I will send this to **42 people**. Shall I?\n\n> The office is closed on Monday. We are back on Tuesday.",
        approval: { approve_label: "Send it", reject_label: "Do not send" },
      },
      seconds,
    ),
  choice: () =>
    prompt({
      message: "Which of these flights?",
      choice: { options: ["07:10, direct", "11:45, one stop in Frankfurt", "19:30, direct"] },
    }),
  many: () =>
    prompt({
      message: "Which city?",
      choice: {
        options: Array.from({ length: 40 }, (_, i) => `${CITIES[i % 8]} ${Math.floor(i / 8) + 1}`),
      },
    }),
  integration: () => prompt({ message: "To read your calendar.", integration: { type: "google" } }),
};

/** Prompts in each of their ends. */
export function endings(): PromptEntry[] {
  const approval = { approve_label: "Send it", reject_label: "Do not send" };
  const message = "Shall I send it?";
  const late = prompt({
    message: "Who was first?",
    status: "PROMPT_STATUS_ANSWERED",
    approval: { approve_label: "Me", reject_label: "You", answer: false },
  });
  late.late.value = true;
  return [
    prompt({ message, status: "PROMPT_STATUS_ANSWERED", approval: { ...approval, answer: true } }),
    prompt({ message, status: "PROMPT_STATUS_ANSWERED", approval }),
    prompt({
      message: "Which of these flights?",
      status: "PROMPT_STATUS_ANSWERED",
      choice: { options: ["07:10, direct", "11:45, one stop in Frankfurt"], answer: 1 },
    }),
    prompt({
      message: "Please upload the **signed contract**.",
      status: "PROMPT_STATUS_ANSWERED",
      file: {
        accept: ".pdf",
        answer: {
          file_id: "fil_1",
          name: "contract.pdf",
          content_type: "application/pdf",
          size: "48213",
          url: "/files/fil_1/contract.pdf",
        },
      },
    }),
    prompt({
      message: "A picture of the meter, please.",
      status: "PROMPT_STATUS_ANSWERED",
      file: {
        answer: {
          file_id: "fil_2",
          name: "meter.png",
          content_type: "image/png",
          size: "70",
          url: PICTURE,
        },
      },
    }),
    late,
    prompt({ message, status: "PROMPT_STATUS_DISMISSED", approval }),
    prompt({ message, status: "PROMPT_STATUS_EXPIRED", approval }),
    prompt({ message: "Which?", status: "PROMPT_STATUS_WITHDRAWN", choice: { options: ["a"] } }),
  ];
}

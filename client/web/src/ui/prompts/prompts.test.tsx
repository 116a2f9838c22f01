import { type Signal, signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Chat, OpenSession, PromptItem, TimelineEntry } from "../../core/model.ts";
import { PromptEntry } from "../../core/prompts.ts";
import type { Upload, UploadState } from "../../core/uploads.ts";
import { App } from "../App.tsx";
import { fakeChat } from "../fake.ts";
import { attachment } from "../fakeFiles.ts";
import { message } from "../fakeItems.ts";
import { accepts, acceptWords } from "./accept.ts";
import { Countdown } from "./Countdown.tsx";
import { found } from "./filter.ts";

let place: HTMLElement | null = null;

async function show(chat: Chat): Promise<HTMLElement> {
  const made = document.createElement("div");
  document.body.append(made);
  place = made;
  await act(() => render(<App chat={chat} />, made));
  return made;
}

afterEach(async () => {
  const made = place;
  if (made) await act(() => render(null, made));
  made?.remove();
  place = null;
  vi.useRealTimers();
});

function open(chat: Chat): OpenSession {
  const session = chat.current.value;
  if (!session) throw new Error("no session is open");
  return session;
}

function asked(chat: Chat): PromptEntry {
  const item = open(chat).items.value.find((each) => each.kind === "prompt");
  if (!(item instanceof PromptEntry)) throw new Error("nothing is asked");
  return item;
}

function button(page: HTMLElement, name: string): HTMLButtonElement {
  const all = [...page.querySelectorAll<HTMLButtonElement>(".prompt button")];
  const found = all.find((each) => each.textContent?.trim() === name);
  if (!found) throw new Error(`no button ${name}`);
  return found;
}

function press(target: Element | null, key: string): Promise<void> {
  return act(() => {
    target?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  });
}

function type(field: HTMLInputElement | null, text: string): Promise<void> {
  return act(() => {
    if (field) field.value = text;
    field?.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

async function end(item: PromptEntry, change: () => void): Promise<void> {
  await act(() => {
    change();
    item.answering.value = null;
  });
}

describe("an open prompt", () => {
  test("shows its answer on the way, and what came of it", async () => {
    const chat = fakeChat("prompt-approval");
    const page = await show(chat);
    const item = asked(chat);
    await act(() => button(page, "Send it").click());
    expect(item.answering.value).toEqual({ kind: "approval", approved: true });
    expect(button(page, "Send it").dataset.picked).toBe("true");
    expect(page.querySelector(".prompt-state")?.textContent).toContain("Answering");
    await act(() => button(page, "Do not send").click());
    expect(item.answering.value).toEqual({ kind: "approval", approved: true });
    await end(item, () => {
      item.answer.value = { kind: "approval", approved: true };
      item.status.value = "answered";
    });
    expect(page.querySelector(".outcome")?.textContent).toBe("Answered: Send it");
    expect(page.querySelector(".prompt button")).toBeNull();
    expect(page.querySelector("#announcer")?.textContent).toContain("Answered: Send it");
  });

  test("is what messages behind it wait for", async () => {
    const chat = fakeChat("prompt-approval");
    const page = await show(chat);
    const waits = () =>
      [...page.querySelectorAll(".entry.user")].map(
        (each) => each.querySelector(".delivery")?.textContent ?? "",
      );
    const items = open(chat).items as Signal<readonly TimelineEntry[]>;
    await act(() => {
      items.value = [...items.value, message("user", "And do not forget Ann")];
    });
    expect(waits()).toEqual(["", "Waits until you have answered"]);
    await end(asked(chat), () => {
      asked(chat).status.value = "dismissed";
    });
    expect(waits()).toEqual(["", ""]);
  });

  test("takes no focus when it comes, and keeps it in the card where its controls go", async () => {
    const chat = fakeChat("prompt-approval");
    const page = await show(chat);
    const item = asked(chat);
    expect(page.querySelector(".prompt")?.contains(document.activeElement)).toBe(false);
    button(page, "Send it").focus();
    await end(item, () => {
      item.status.value = "expired";
    });
    expect(document.activeElement).toBe(page.querySelector(".prompt"));
    expect(page.querySelector(".outcome")?.textContent).toBe("Not answered in time");
  });

  test("leaves the focus alone where it is elsewhere", async () => {
    const chat = fakeChat("prompt-choice");
    const page = await show(chat);
    const field = page.querySelector("textarea");
    field?.focus();
    await end(asked(chat), () => {
      asked(chat).status.value = "withdrawn";
    });
    expect(document.activeElement).toBe(field);
  });

  test("is not dismissed by Escape, only by its button", async () => {
    const chat = fakeChat("prompt-many");
    const page = await show(chat);
    const item = asked(chat);
    for (const each of page.querySelectorAll(".prompt, .prompt input, .option")) {
      await press(each, "Escape");
    }
    expect([item.status.value, item.answering.value]).toEqual(["open", null]);
    await act(() => button(page, "Dismiss").click());
    expect(item.answering.value).toEqual({ kind: "dismiss" });
  });

  test("says why an answer was not given, and gives it again", async () => {
    const chat = fakeChat("prompt-failed");
    const page = await show(chat);
    const alert = page.querySelector(".prompt [role=alert]");
    expect(alert?.textContent).toContain("Not answered: The server cannot be reached.");
    await act(() => button(page, "Try again").click());
    expect(asked(chat).answering.value).toEqual({ kind: "approval", approved: true });
    expect(alert?.textContent).toBe("");
  });

  test("is waited for: no dots, and Stop is there", async () => {
    const page = await show(fakeChat("prompt-file"));
    expect(page.querySelector(".typing")).toBeNull();
    expect(page.querySelector(".progress")?.textContent).toBe("Waiting for your answer");
    expect(page.querySelector("button[aria-label=Stop]")).not.toBeNull();
    expect(page.querySelector(".session-row[data-waiting] a")?.textContent).toContain(
      "waits for your answer",
    );
  });

  test("counts down in its last minute, seen and not heard", async () => {
    vi.useFakeTimers();
    const chat = fakeChat("prompt-approval");
    const page = await show(chat);
    const state = page.querySelector(".prompt-state");
    expect(page.querySelector(".countdown")).toBeNull();
    await act(() => void vi.advanceTimersByTime(240_000));
    const shown = page.querySelector(".countdown");
    expect(shown?.textContent).toMatch(/^(50|49) s left$/);
    expect(shown?.getAttribute("aria-hidden")).toBe("true");
    expect(state?.closest("[aria-live=polite], [role=status], [role=alert]")).toBeNull();
    await act(() => void vi.advanceTimersByTime(60_000));
    expect(page.querySelector(".countdown")?.textContent).toBe("The time is over");
  });

  test("says until when it can be answered, where that is within a day", async () => {
    vi.useFakeTimers({ now: new Date(2026, 4, 1, 8, 0) });
    const page = await show(fakeChat("prompt-approval"));
    const until = page.querySelector(".until");
    expect(until?.textContent).toMatch(/^Until 0?8[:.]04/);
    expect(until?.getAttribute("aria-hidden")).toBe("true"); // It is said in a sentence.
    expect(page.querySelector(".prompt-state .sr-only")?.textContent).toMatch(/until 0?8[:.]04/);
    await act(() => void vi.advanceTimersByTime(240_000));
    expect(page.querySelector(".until")).toBeNull();
    expect(page.querySelector(".countdown")).not.toBeNull();
  });

  test("says nothing of a deadline that is days away, until it is not", async () => {
    vi.useFakeTimers({ now: new Date(2026, 4, 1, 8, 0) });
    const page = document.createElement("div");
    const until = new Date(2026, 4, 3, 8, 0);
    await act(() => render(<Countdown until={until} />, page));
    expect(page.querySelector(".until")).toBeNull();
    await act(() => void vi.advanceTimersByTime(86_400_000));
    expect(page.querySelector(".until")?.textContent).toMatch(/^Until .*2026.*8[:.]00/);
    await act(() => render(null, page));
  });

  test("that lies before what is loaded is answered above the composer, and stays there", async () => {
    const chat = fakeChat("prompt-before");
    const page = await show(chat);
    const pinned = page.querySelector(".pinned");
    expect(pinned?.querySelectorAll(".prompt")).toHaveLength(2);
    const [item] = open(chat).prompts.waiting.value as PromptEntry[];
    if (!item) throw new Error("nothing waits");
    await end(item, () => {
      item.answer.value = { kind: "choice", option: 2 };
      item.status.value = "answered";
    });
    expect(pinned?.querySelector(".outcome")?.textContent).toBe("Answered: 19:30, direct");
    await act(() => page.querySelector<HTMLElement>("button[aria-label='Put it away']")?.click());
    expect(page.querySelectorAll(".pinned .prompt")).toHaveLength(1);
  });
});

describe("a choice", () => {
  const focused = () => document.activeElement?.textContent;

  test("is walked with the arrows, and one place of it is in the order of Tab", async () => {
    const page = await show(fakeChat("prompt-choice"));
    const options = [...page.querySelectorAll<HTMLElement>(".option")];
    expect(options.map((each) => each.tabIndex)).toEqual([0, -1, -1]);
    options[0]?.focus();
    await press(document.activeElement, "ArrowDown");
    await press(document.activeElement, "ArrowDown");
    await press(document.activeElement, "ArrowDown");
    expect(focused()).toBe("19:30, direct");
    expect(options.map((each) => each.tabIndex)).toEqual([-1, -1, 0]);
    await press(document.activeElement, "Home");
    expect(focused()).toBe("07:10, direct");
  });

  test("is of buttons that are sent at once, and look like no more than that", async () => {
    const chat = fakeChat("prompt-choice");
    const page = await show(chat);
    const [, second] = page.querySelectorAll<HTMLElement>("button.option");
    expect(second?.innerHTML).toBe('<span dir="auto">11:45, one stop in Frankfurt</span>');
    await act(() => second?.click());
    expect(asked(chat).answering.value).toEqual({ kind: "choice", option: 1 });
  });

  test("of many is filtered; Enter takes the only one that is left", async () => {
    const chat = fakeChat("prompt-many");
    const page = await show(chat);
    const field = page.querySelector<HTMLInputElement>(".option-filter input");
    const first = page.querySelector<HTMLElement>(".option");
    first?.focus();
    await press(first, "b"); // A letter is meant for the filter, not for the message.
    expect(document.activeElement).toBe(field);
    await type(field, "cadiz");
    expect(page.querySelectorAll(".option")).toHaveLength(5);
    expect(page.querySelector(".options-found")?.textContent).toBe("5 of 40");
    await press(field, "Enter"); // Not taken: it is not clear which.
    expect(asked(chat).answering.value).toBeNull();
    expect(focused()).toBe("Cádiz 1");
    await press(document.activeElement, "ArrowUp");
    expect(document.activeElement).toBe(field);
    await type(field, "cadiz 3");
    await press(field, "Enter");
    expect(asked(chat).answering.value).toEqual({ kind: "choice", option: 18 });
  });

  test("has its filter emptied by Escape", async () => {
    const page = await show(fakeChat("prompt-many"));
    const field = page.querySelector<HTMLInputElement>(".option-filter input");
    await type(field, "nowhere");
    expect(page.querySelector(".options-found")?.textContent).toBe("None fits");
    await press(field, "Escape");
    expect(page.querySelectorAll(".option")).toHaveLength(40);
  });

  test("finds every word, in any case, with or without accents", () => {
    const labels = (text: string) =>
      found(["Cádiz, south", "Aarhus", "South Bend"], text).map(({ index }) => index);
    expect(labels("")).toEqual([0, 1, 2]);
    expect(labels(" SOUTH ")).toEqual([0, 2]);
    expect(labels("south cád")).toEqual([0]);
    expect(labels("west")).toEqual([]);
  });
});

describe("a file prompt", () => {
  async function choose(page: HTMLElement, ...files: File[]): Promise<void> {
    const input = page.querySelector<HTMLInputElement>(".prompt input[type=file]");
    if (!input) throw new Error("no field for a file");
    Object.defineProperty(input, "files", { value: files, configurable: true });
    await act(() => {
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  test("tells the browser what is wanted, and says what is not", async () => {
    const chat = fakeChat("prompt-file");
    const page = await show(chat);
    const input = page.querySelector<HTMLInputElement>(".prompt input[type=file]");
    expect(input?.accept).toBe(".pdf,image/*");
    await choose(page, new File(["x"], "notes.txt", { type: "text/plain" }));
    expect(page.querySelector(".prompt-file [role=alert]")?.textContent).toBe(
      "“notes.txt” does not fit: PDF or images are wanted.",
    );
    await choose(page, new File(["x"], "a.pdf"), new File(["x"], "b.pdf"));
    expect(page.querySelector(".prompt-file [role=alert]")?.textContent).toContain("One file");
    expect(asked(chat).upload.value).toBeNull();
  });

  test("shows the file on its way, which can be called back", async () => {
    const chat = fakeChat("prompt-file");
    const page = await show(chat);
    await choose(page, new File(["x".repeat(2048)], "scan.PDF"));
    expect(page.querySelector(".sending-name")?.textContent).toBe("scan.PDF 2 KiB");
    expect(page.querySelector("progress")?.getAttribute("aria-label")).toBe("Uploading scan.PDF");
    await act(() => button(page, "Cancel").click());
    expect(asked(chat).upload.value).toBeNull();
    expect(button(page, "Choose a file")).toBeTruthy();
  });

  test("offers the one file that is attached to the message, where it fits", async () => {
    const chat = fakeChat("prompt-file");
    const files = chat.attachments as Signal<readonly Upload[]>;
    const upload = (name: string, state: UploadState): Upload => ({
      ...{ key: name, name, contentType: "", size: 10, source: null, state: signal(state) },
    });
    const done = (name: string, type: string) =>
      upload(name, { kind: "done", file: attachment(name, type, 10) });
    const page = await show(chat);
    const offer = () => page.querySelector<HTMLButtonElement>(".attached button");
    const going = upload("scan.pdf", { kind: "uploading", progress: 0.5, waiting: false });
    for (const list of [
      [],
      [going],
      [done("notes.txt", "text/plain")],
      [done("a.pdf", "application/pdf"), done("b.pdf", "application/pdf")],
    ]) {
      await act(() => {
        files.value = list;
      });
      expect(offer()).toBeNull();
    }
    const fits = done("scan.pdf", "application/pdf");
    await act(() => {
      files.value = [fits];
    });
    expect(page.querySelector(".attached")?.textContent).toBe("Answer with this filescan.pdf");
    const item = asked(chat);
    vi.useFakeTimers();
    const detach = vi.spyOn(chat, "detach");
    await act(() => offer()?.click());
    const file = fits.state.value.kind === "done" && fits.state.value.file;
    expect(item.answering.value).toEqual({ kind: "file", file });
    await act(async () => void (await vi.advanceTimersByTimeAsync(1000)));
    expect(item.status.value).toBe("answered");
    expect(files.value).toEqual([]);
    // The sidecar does not forget what is an answer.
    expect(detach.mock.calls).toEqual([[fits.key, true]]);
  });

  test("takes what the attribute says", () => {
    const one = (accept: string, name: string, type = "") => accepts(accept, { name, type });
    expect(one("", "a.exe")).toBe(true);
    expect(one(".pdf, .CSV", "A.csv")).toBe(true);
    expect(one(".pdf", "a.pdf.exe", "application/x-msdownload")).toBe(false);
    expect(one("image/*", "a", "image/webp")).toBe(true);
    expect(one("image/*", "a.txt", "text/plain")).toBe(false);
    expect(one("text/csv", "a.csv", "text/csv; charset=utf-8")).toBe(true);
    expect(one("text/csv", "a.csv")).toBe(true); // Not known: the sidecar looks at it.
    expect(one("*/*", "a", "text/plain")).toBe(true);
  });

  test("says what it takes as a person does", () => {
    expect(acceptWords("")).toBe("");
    expect(acceptWords(".pdf")).toBe("PDF");
    expect(acceptWords("application/pdf,.pdf,image/*,.csv")).toBe("PDF, images or CSV");
    expect(acceptWords("application/x-thing,constructor")).toBe(
      "application/x-thing or constructor",
    );
  });
});

test("suggestions are gone once the person has written something", async () => {
  const chat = fakeChat("blocks");
  const page = await show(chat);
  expect(page.querySelectorAll(".chip")).toHaveLength(3);
  await act(() => chat.send("something else"));
  expect(page.querySelector(".chip")).toBeNull();
  const prompts: readonly PromptItem[] = open(chat).prompts.waiting.value;
  expect(prompts).toEqual([]);
});

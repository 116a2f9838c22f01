import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, expect, test, vi } from "vitest";
import type { Chat, MessageItem } from "../../core/model.ts";
import type { Upload, UploadState } from "../../core/uploads.ts";
import { App } from "../App.tsx";
import { fakeChat } from "../fake.ts";
import { attachment } from "../fakeFiles.ts";

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

const done: UploadState = { kind: "done", file: attachment("a.txt", "text/plain", 10) };

function upload(name: string, state: UploadState) {
  return { key: name, name, contentType: "", size: 10, source: null, state: signal(state) };
}

/** A chat whose draft has files in given states. */
function chatWith(...uploads: Upload[]): Chat {
  const chat = fakeChat("chat");
  (chat.attachments as { value: readonly Upload[] }).value = uploads;
  return chat;
}

function button(page: HTMLElement, name: string): HTMLButtonElement {
  const found = page.querySelector<HTMLButtonElement>(`button[aria-label="${name}"]`);
  if (!found) throw new Error(`there is no button ${name}`);
  return found;
}

function announced(page: HTMLElement): string[] {
  return [...page.querySelectorAll("#announcer p")].map((line) => line.textContent ?? "");
}

function drag(type: string, files: readonly File[], more: Record<string, unknown> = {}): Event {
  const event = new Event(type, { bubbles: true, cancelable: true });
  const items = files.map((file) => ({ kind: "file", getAsFile: () => file }));
  const dataTransfer = { types: ["Files"], items, files, dropEffect: "", getData: () => "" };
  return Object.assign(
    event,
    { dataTransfer, clipboardData: dataTransfer, relatedTarget: null },
    more,
  );
}

/** Lets a target have an event, and what follows from it happen. */
async function fire(target: EventTarget | null | undefined, event: Event): Promise<void> {
  await act(async () => {
    target?.dispatchEvent(event);
    await Promise.resolve();
  });
}

const signed = (path: string, expires: number) => `${path}?expires=${expires}&signature=new`;

const text = () => new File(["x"], "a.txt", { type: "text/plain" });

test("a message waits for its files, and says so where one wants to send it", async () => {
  const going = upload("b.txt", { kind: "uploading", progress: 0.4, waiting: false });
  const chat = chatWith(upload("a.txt", done), going);
  const send = vi.spyOn(chat, "send");
  const page = await show(chat);
  const sender = button(page, "Send");
  expect(sender.getAttribute("aria-disabled")).toBe("true");
  expect(page.querySelector("#composer-hindrance")?.textContent).toBe("1 file is being uploaded…");
  expect(page.querySelector("progress")?.value).toBe(40);
  await act(() => sender.click());
  expect(send).not.toHaveBeenCalled();
  expect(announced(page).at(-1)).toBe("Not sent yet: 1 file is being uploaded…");
  await act(() => {
    going.state.value = done;
  });
  expect(page.querySelector("#composer-hindrance")?.textContent).toBe("");
  expect(announced(page).at(-1)).toBe("All files are uploaded.");
  await act(() => sender.click());
  expect(send).toHaveBeenCalledWith("");
});

test("a file that failed is told of, can be tried again, and holds the message back", async () => {
  const failing = upload("b.txt", { kind: "uploading", progress: 0.4, waiting: true });
  const chat = chatWith(failing);
  const retry = vi.spyOn(chat.uploader, "retry").mockReturnValue();
  const page = await show(chat);
  expect(page.querySelector(".draft-file-state")?.textContent).toBe("Waits for the line…");
  await act(() => {
    failing.state.value = { kind: "failed", problem: "The disk is full.", retryable: true };
  });
  expect(announced(page).at(-1)).toBe("b.txt was not uploaded. The disk is full.");
  expect(button(page, "Send").getAttribute("aria-disabled")).toBe("true");
  await act(() => button(page, "Upload b.txt again").click());
  expect(retry).toHaveBeenCalledWith(failing);
});

test("removing files by keyboard goes on to the next one, and then to the text", async () => {
  const chat = chatWith(upload("a.txt", done), upload("b.txt", done));
  const page = await show(chat);
  button(page, "Remove a.txt").focus();
  await act(() => button(page, "Remove a.txt").click());
  expect(document.activeElement?.getAttribute("aria-label")).toBe("Remove b.txt");
  await act(() => button(page, "Remove b.txt").click());
  await new Promise((painted) => requestAnimationFrame(painted));
  expect(document.activeElement?.tagName).toBe("TEXTAREA");
  expect(page.querySelector(".draft-files")).toBeNull();
});

test("files that are dropped anywhere are attached; the overlay is told of, and goes", async () => {
  const chat = fakeChat("chat");
  const attach = vi.spyOn(chat, "attach").mockReturnValue();
  const page = await show(chat);
  const entry = page.querySelector(".entry");
  const over = drag("dragover", [text()]);
  await fire(entry, over);
  expect(over.defaultPrevented).toBe(true);
  expect(page.querySelector(".drop-zone")?.textContent).toBe("Drop files to attach them");
  expect(announced(page)).toEqual(["Drop the files to attach them."]);
  const drop = drag("drop", [text()]);
  await fire(entry, drop);
  expect(drop.defaultPrevented).toBe(true);
  expect(attach.mock.calls[0]?.[0].map(({ name }) => name)).toEqual(["a.txt"]);
  expect(page.querySelector(".drop-zone")).toBeNull();
});

test("the overlay goes when the files leave the window, and when nothing is heard of them", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const page = await show(fakeChat("chat"));
  await fire(document.body, drag("dragover", [text()]));
  await fire(document.body, drag("dragleave", [], { relatedTarget: document.body }));
  expect(page.querySelector(".drop-zone")).not.toBeNull();
  await fire(document.body, drag("dragleave", []));
  expect(page.querySelector(".drop-zone")).toBeNull();
  await fire(document.body, drag("dragover", [text()]));
  await act(() => void vi.advanceTimersByTime(1000));
  expect(page.querySelector(".drop-zone")).toBeNull();
});

test("what something else on the page takes is not attached as well", async () => {
  const chat = fakeChat("chat");
  const attach = vi.spyOn(chat, "attach");
  const page = await show(chat);
  const entry = page.querySelector(".entry");
  entry?.addEventListener("drop", (event) => event.preventDefault());
  await fire(entry, drag("drop", [text()]));
  expect(attach).not.toHaveBeenCalled();
});

test("a chat that is closed takes no files, and the browser does not leave for them", async () => {
  const chat = fakeChat("closed");
  const attach = vi.spyOn(chat, "attach");
  const page = await show(chat);
  const drop = drag("drop", [text()]);
  await fire(document.body, drag("dragover", [text()]));
  expect(page.querySelector(".drop-zone")).toBeNull();
  await fire(document.body, drop);
  expect(drop.defaultPrevented).toBe(true);
  expect(attach).not.toHaveBeenCalled();
});

test("what is pasted is attached, unless it is pasted into something else", async () => {
  const chat = fakeChat("chat");
  const attach = vi.spyOn(chat, "attach").mockReturnValue();
  const page = await show(chat);
  await fire(page.querySelector(".search input, #session-search"), drag("paste", [text()]));
  expect(attach).not.toHaveBeenCalled();
  const paste = drag("paste", [text()]);
  await fire(page.querySelector("textarea"), paste);
  expect(paste.defaultPrevented).toBe(true);
  expect(attach).toHaveBeenCalledOnce();
});

test("pictures of messages are shown in a place of their own, other files as cards", async () => {
  const page = await show(fakeChat("files"));
  const [first] = page.querySelectorAll<HTMLAnchorElement>("a.picture");
  const picture = first?.querySelector("img");
  expect(picture?.alt).toBe("harbour.png");
  expect(picture?.getAttribute("loading")).toBe("lazy");
  expect(first?.target).toBe("_blank");
  expect(first?.getAttribute("href")).toBe(picture?.getAttribute("src"));
  const card = page.querySelector<HTMLAnchorElement>("a.file-card");
  expect(card?.download).toBe("Quarterly report, final version (2).pdf");
  expect(card?.querySelector("small")?.textContent).toBe("PDF · 7 MiB");
  // Without text there is no bubble, and nothing to copy.
  expect(page.querySelectorAll(".entry.user").length).toBe(4);
  expect(page.querySelectorAll(".bubble").length).toBe(2);
});

test("a picture that does not load is asked for once under a new address, then it is a card", async () => {
  const chat = fakeChat("files");
  const item = chat.current.value?.items.value[0] as MessageItem;
  const fresh = signed("http://elsewhere/files/fil_1/harbour.png", 9_999_999_999);
  const asked = vi.spyOn(chat, "fileUrl").mockResolvedValue(fresh);
  const page = await show(chat);
  const picture = () => page.querySelector<HTMLImageElement>("a.picture img[alt='harbour.png']");
  await fire(picture(), new Event("error"));
  expect(asked).toHaveBeenCalledWith(item.attachments.value[0]?.file_id);
  await vi.waitFor(() => expect(picture()?.getAttribute("src")).not.toContain("fake"), {
    timeout: 10_000,
  });
  expect(picture()?.getAttribute("src")).toBe(fresh.replace("http://elsewhere", ""));
  await fire(picture(), new Event("error"));
  await vi.waitFor(() => expect(picture()).toBeNull(), { timeout: 10_000 });
  expect(asked).toHaveBeenCalledOnce();
  expect(page.querySelector(".file-card small")?.textContent).toContain("cannot be shown");
});

test("a link whose address comes to its end is followed under a new one", async () => {
  const chat = fakeChat("chat");
  const item = chat.current.value?.items.value[1] as MessageItem;
  const old = {
    ...attachment("a.pdf", "application/pdf", 10),
    url: "/files/fil_9/a.pdf?expires=1",
  };
  (item.attachments as { value: readonly unknown[] }).value = [old];
  const fresh = signed("/files/fil_9/a.pdf", 9_999_999_999);
  vi.spyOn(chat, "fileUrl").mockResolvedValue(fresh);
  const followed: string[] = [];
  const spy = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (
    this: HTMLAnchorElement,
  ) {
    followed.push(`${this.getAttribute("href")} ${this.download}`);
  });
  const page = await show(chat);
  const click = new MouseEvent("click", { bubbles: true, cancelable: true });
  await fire(page.querySelector(".file-card"), click);
  expect(click.defaultPrevented).toBe(true);
  await vi.waitFor(() => expect(followed).toHaveLength(1), { timeout: 10_000 });
  expect(followed).toEqual([`${fresh} a.pdf`]);
  expect(page.querySelector(".file-card")?.getAttribute("href")).toBe(fresh);
  spy.mockRestore();
});

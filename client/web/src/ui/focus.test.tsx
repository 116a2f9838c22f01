import type { Signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, expect, test, vi } from "vitest";
import type { BlockItem, Chat, TimelineEntry } from "../core/model.ts";
import { App } from "./App.tsx";
import { fakeChat } from "./fake.ts";
import { block, type Message, message } from "./fakeItems.ts";
import { task } from "./fakeTasks.ts";

let place: HTMLElement | null = null;

async function show(...items: TimelineEntry[]): Promise<{ page: HTMLElement; chat: Chat }> {
  const chat = fakeChat("chat");
  const made = document.createElement("div");
  document.body.append(made);
  place = made;
  fill(chat, items);
  await act(() => render(<App chat={chat} />, made));
  return { page: made, chat };
}

function fill(chat: Chat, items: readonly TimelineEntry[]): void {
  (chat.current.value?.items as { value: readonly TimelineEntry[] }).value = items;
}

afterEach(async () => {
  const made = place;
  if (made) await act(() => render(null, made));
  made?.remove();
  place = null;
});

function focusOn(page: HTMLElement, selector: string): void {
  const found = page.querySelector<HTMLElement>(selector);
  if (!found) throw new Error(`no ${selector}`);
  found.focus();
  expect(document.activeElement).toBe(found);
}

/** A block that can be shown anew. */
function changing(made: BlockItem): {
  item: BlockItem;
  change: (payload: object) => Promise<void>;
} {
  const payload = made.payload as Signal<BlockItem["payload"]["value"]>;
  const change = (next: object) =>
    act(() => {
      payload.value = { ...next };
    });
  return { item: made, change };
}

const BUTTONS = [{ label: "Go", action: "go" }];

test.each<[string, BlockItem, object, string]>([
  ["a card", block("order", { title: "Order", buttons: BUTTONS }), { title: "Sent" }, ".card"],
  ["a task's", task({ buttons: BUTTONS }), task({}).payload.peek(), ".card.task"],
  [
    "one without a card",
    block("step", { label: "Read", buttons: BUTTONS }),
    { label: "Read" },
    ".entry",
  ],
])("a block whose buttons go has the focus: %s", async (_, made, next, selector) => {
  const { item, change } = changing(made);
  const { page } = await show(item);
  focusOn(page, ".block .button");
  await change(next);
  expect(page.querySelector(".block .button")).toBeNull();
  expect(document.activeElement).toBe(page.querySelector(`.block ${selector}, .block${selector}`));
});

test("a block takes no focus that is elsewhere", async () => {
  const { item, change } = changing(block("order", { title: "Order", buttons: BUTTONS }));
  const { page } = await show(item);
  focusOn(page, "#composer-text");
  await change({ title: "Sent" });
  expect(document.activeElement?.id).toBe("composer-text");
});

test("a suggestion that goes gives the focus to the composer", async () => {
  const chips = changing(block("suggestions", { items: ["One", "Two"] }));
  const { page, chat } = await show(chips.item);
  const composer = () => expect(document.activeElement?.id).toBe("composer-text");
  focusOn(page, ".chips li:last-child .chip");
  await chips.change({ items: ["One"] });
  await vi.waitFor(composer);
  focusOn(page, ".chip");
  // Somebody has written, on another device perhaps.
  await act(() => fill(chat, [chips.item, message("user", "Three")]));
  expect(page.querySelector(".chip")).toBeNull();
  await vi.waitFor(composer);
});

test("so does what is sent again, and what is put away", async () => {
  const failed: Message = message("user", "Not yet");
  failed.delivery.value = "failed";
  const { page, chat } = await show(failed);
  const composer = () => expect(document.activeElement?.id).toBe("composer-text");
  focusOn(page, ".not-sent button");
  await act(() => {
    failed.delivery.value = "sending";
  });
  await vi.waitFor(composer);
  await act(() => chat.tell("Something did not work."));
  focusOn(page, ".toast button");
  await act(() => page.querySelector<HTMLElement>(".toast button")?.click());
  expect(page.querySelector(".toast")).toBeNull();
  await vi.waitFor(composer);
});

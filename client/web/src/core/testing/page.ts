/** A page for tests: the chat over a fake browser and server, and what it shows. */

import { vi } from "vitest";
import type { Chat, MessageItem, OpenSession, TimelineEntry } from "../model.ts";
import { ChatStore } from "../store.ts";
import type { FakeBrowser, Tab } from "./browser.ts";
import type { FakeServer } from "./server.ts";

/** A tab with the chat in it. */
export interface Page {
  readonly chat: ChatStore;
  readonly tab: Tab;
}

/** Opens a tab on the chat. */
export function openPage(
  browser: FakeBrowser,
  server: FakeServer,
  hash = "",
  tabStorage = new Map<string, string>(),
  hidden = false,
): Page {
  const tab = browser.tab(server, tabStorage, hash);
  tab.isHidden = hidden;
  const chat = new ChatStore("demo", tab);
  void chat.start();
  return { chat, tab };
}

/** Loads the page again: of the old one nothing is left but what is on disk. */
export function reload(page: Page, server: FakeServer): Page {
  page.tab.fire("pagehide");
  page.tab.crash();
  return openPage(page.tab.browser, server, page.tab.hash(), page.tab.tab.values);
}

/** Lets what is due happen. */
export async function settle(ms = 100): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

/** The session on screen. */
export function current(chat: Chat): OpenSession {
  const session = chat.current.peek();
  if (session === null) {
    throw new Error("no session is on screen");
  }
  return session;
}

/** The items on screen, as `expected` of the server gives them. */
export function shown(chat: Chat): unknown[] {
  return (chat.current.peek()?.items.peek() ?? []).map(one);
}

/** The messages on screen. */
export function messages(chat: Chat): MessageItem[] {
  const items = chat.current.peek()?.items.peek() ?? [];
  return items.filter((each) => each.kind === "message");
}

/** The texts and deliveries of the messages on screen. */
export function deliveries(chat: Chat): [string, string][] {
  return messages(chat).map((each) => [each.text.peek(), each.delivery.peek()]);
}

function one(item: TimelineEntry): unknown {
  if (item.kind === "message") {
    return [item.sender, item.text.peek(), item.interrupted.peek(), item.streaming.peek()];
  }
  if (item.kind === "block") {
    return ["block", item.blockId, item.payload.peek()];
  }
  return item.kind === "prompt"
    ? ["prompt", item.promptId, item.status.peek()]
    : ["ended", item.reason];
}

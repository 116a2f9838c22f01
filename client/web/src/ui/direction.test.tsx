import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, expect, test } from "vitest";
import type { Chat, OpenSession, SessionEntry, TimelineEntry } from "../core/model.ts";
import { quoted } from "../core/notices.ts";
import { App } from "./App.tsx";
import { fakeChat } from "./fake.ts";
import { attachment } from "./fakeFiles.ts";
import { block, message } from "./fakeItems.ts";
import { prompt } from "./fakePrompts.ts";
import { task } from "./fakeTasks.ts";

const ARABIC = "مرحبا بالعالم (1).";
const LONG = `${ARABIC} `.repeat(60).trim();
const IS_ARABIC = /[\u0600-\u06ff]/;

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
});

function open(chat: Chat): OpenSession {
  const session = chat.current.value;
  if (!session) throw new Error("no session is open");
  return session;
}

/** What nothing gives a direction of its own. */
function undirected(page: HTMLElement): string[] {
  const texts = document.createTreeWalker(page, NodeFilter.SHOW_TEXT);
  const out: string[] = [];
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const parent = text.parentElement;
    if (!IS_ARABIC.test(text.textContent ?? "") || parent?.closest("#announcer, .sr-only"))
      continue;
    const owner = parent?.closest("bdi, [dir]");
    const given = owner?.getAttribute("dir") ?? "auto";
    if (!owner || given !== "auto") out.push(`${parent?.tagName}.${parent?.className}`);
  }
  return out;
}

test("whatever comes from outside has a direction of its own", async () => {
  const chat = fakeChat("chat");
  const session = open(chat);
  const set = <T,>(target: unknown, value: T) => {
    (target as { value: T }).value = value;
  };
  const items: TimelineEntry[] = [
    message("user", ARABIC),
    message("app", `${ARABIC}\n\n# ${ARABIC}\n\n- ${ARABIC}\n\n> ${ARABIC}\n\n[${ARABIC}](/a)`),
    block("card", {
      title: ARABIC,
      text: ARABIC,
      [ARABIC]: ARABIC,
      long: LONG,
      list: [ARABIC, "b"],
      nested: { [ARABIC]: { [ARABIC]: ARABIC } },
      buttons: [{ label: ARABIC, action: "go" }],
    }),
    block(ARABIC, {}),
    block("step", { label: ARABIC, status: "running", detail: ARABIC }),
    block("step", { label: ARABIC, status: "failed", detail: LONG }),
    block("image", { url: "https://example.com/a.png", alt: ARABIC }),
    task({ message: ARABIC, progress: 0.5, progress_message: ARABIC }),
    task({ message: ARABIC, status: "failed", progress: 0.5, progress_message: ARABIC }),
    task({ message: ARABIC, status: "cancelled", progress_message: ARABIC }),
    task({ status: "completed", result: ARABIC }),
    task({ status: "completed", result: LONG }),
    prompt({ message: ARABIC, approval: { approve_label: ARABIC, reject_label: ARABIC } }),
    prompt({ message: ARABIC, choice: { options: [ARABIC, LONG] } }),
    prompt({ message: ARABIC, integration: { type: ARABIC } }),
    block("suggestions", { items: [ARABIC, { label: LONG, text: "b" }] }),
  ];
  const answered = prompt({ message: ARABIC, choice: { options: [ARABIC] } });
  answered.answer.value = { kind: "choice", option: 0 };
  answered.status.value = "answered";
  const carrying = message("app", "");
  carrying.attachments.value = [attachment(`${ARABIC}.pdf`, "application/pdf", 812)];
  set(session.items, [...items, answered, carrying]);
  set(session.entry, { ...session.entry.value, title: ARABIC });
  set(session.statusLines, [{ invocationId: "i", text: ARABIC, detail: ARABIC }]);
  const sessions = chat.sessions.value.map((each): SessionEntry => ({ ...each, title: ARABIC }));
  const named = { ...chat, sessions: signal(sessions) };
  const page = await show(named);
  expect(page.textContent?.match(new RegExp(IS_ARABIC, "g"))?.length).toBeGreaterThan(1000);
  expect(undirected(page)).toEqual([]);
  for (const field of page.querySelectorAll("#composer-text, #session-search")) {
    expect(field.getAttribute("dir")).toBe("auto");
  }
});

test("a list item and a quotation are on the side of their first text", async () => {
  const chat = fakeChat("chat");
  const texts = [`- ${ARABIC}\n\n  b`, `> ${ARABIC}\n>\n> b`, `> - ${ARABIC}`, `1. [x] ${ARABIC}`];
  (open(chat).items as { value: unknown }).value = texts.map((text) => message("app", text));
  const page = await show(chat);
  // `auto` does not look into what has a direction: what is first has none of its own.
  const found = [...page.querySelectorAll(".md-group > *")].map((each) =>
    [each, ...each.querySelectorAll("*")]
      .filter(({ tagName }) => ["LI", "BLOCKQUOTE", "P"].includes(tagName))
      .map((one) => `${one.tagName} ${one.getAttribute("dir") ?? "-"}`),
  );
  expect(found).toEqual([
    ["LI auto", "P -", "P auto"],
    ["BLOCKQUOTE auto", "P -", "P auto"],
    ["BLOCKQUOTE auto", "LI -", "P -"],
    ["LI auto", "P -"],
  ]);
});

test("a name from right to left turns round nothing of the sentence it stands in", () => {
  expect(quoted("a (1).pdf")).toBe("“a (1).pdf”");
  expect(quoted(ARABIC)).toBe(`“\u2068${ARABIC}\u2069”`);
});

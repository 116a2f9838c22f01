import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, expect, test } from "vitest";
import type { Chat, MessageItem, OpenSession } from "../core/model.ts";
import { App } from "./App.tsx";
import { pageTitle } from "./answers.ts";
import { fakeChat, STATES } from "./fake.ts";

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

test.each(STATES)("the state %s is shown with one heading of the first level", async (state) => {
  const page = await show(fakeChat(state));
  expect(page.querySelectorAll("h1")).toHaveLength(1);
  expect(page.querySelector("[style]:not(textarea, .menu)")).toBeNull();
});

test("a delta changes its own message and nothing else", async () => {
  const chat = fakeChat("streaming");
  const page = await show(chat);
  const entries = [...page.querySelectorAll(".entry")];
  const last = entries.at(-1);
  const elsewhere: MutationRecord[] = [];
  const observer = new MutationObserver((records) => {
    elsewhere.push(...records.filter((one) => !last?.contains(one.target)));
  });
  observer.observe(page, { subtree: true, childList: true, characterData: true, attributes: true });
  const item = open(chat).items.value.at(-1) as MessageItem;
  await act(() => {
    (item.text as { value: string }).value += ["(30)", "```", "", "New words."].join("\n");
  });
  await new Promise((done) => setTimeout(done));
  observer.disconnect();
  expect(last?.textContent).toContain("New words.");
  expect([...page.querySelectorAll(".entry")]).toEqual(entries);
  expect(elsewhere).toEqual([]);
});

test("a message that was not sent says why, and comes back to be edited", async () => {
  const chat = fakeChat("failed");
  const page = await show(chat);
  expect(page.querySelector(".not-sent")?.textContent).toContain(
    "Not sent: too many messages wait",
  );
  chat.setDraft("what I write meanwhile");
  const edit = [...page.querySelectorAll("button")].find((one) => one.textContent === "Edit");
  await act(() => edit?.click());
  expect(chat.draft.value).toBe("This one did not make it.\n\nwhat I write meanwhile");
  expect(page.querySelector(".not-sent")).toBeNull();
});

test("a text that is too long cannot be sent, by button or by key", async () => {
  const chat = fakeChat("over");
  const page = await show(chat);
  const before = open(chat).items.value;
  expect(page.querySelector<HTMLButtonElement>("button.send")?.disabled).toBe(true);
  expect(page.querySelector("#composer-size")?.textContent).toContain("Too long by");
  page
    .querySelector("textarea")
    ?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  expect(open(chat).items.value).toBe(before);
});

test("Enter sends, but not in a composition and not with Shift", async () => {
  const chat = fakeChat("chat");
  const page = await show(chat);
  const field = page.querySelector("textarea");
  const press = (more: KeyboardEventInit) =>
    act(() => {
      field?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, ...more }));
    });
  const count = () => open(chat).items.value.length;
  chat.setDraft("Hello");
  const before = count();
  await press({ isComposing: true });
  await press({ keyCode: 229 });
  await press({ shiftKey: true });
  expect(count()).toBe(before);
  await press({});
  expect(count()).toBe(before + 1);
});

test("Escape in the composer stops nothing", async () => {
  const chat = fakeChat("streaming");
  const page = await show(chat);
  page
    .querySelector("textarea")
    ?.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  expect(open(chat).stopping.value).toBe(false);
  expect(page.querySelector("button[aria-label=Stop]")).not.toBeNull();
});

test("while an answer comes, Stop and Send are both there once there is something to send", async () => {
  const chat = fakeChat("streaming");
  const page = await show(chat);
  expect(page.querySelector("button.send")).toBeNull();
  await act(() => chat.setDraft("And another thing"));
  expect(page.querySelector("button.send")).not.toBeNull();
  expect(page.querySelector("button.stop")).not.toBeNull();
});

test("the tab's title tells of answers that came unseen", () => {
  expect(pageTitle("demo", "Leases", 0)).toBe("Leases · demo");
  expect(pageTitle("demo", "Leases", 2)).toBe("(2) Leases · demo");
  expect(pageTitle("demo", "", 0)).toBe("demo");
});

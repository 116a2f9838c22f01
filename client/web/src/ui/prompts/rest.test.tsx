import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PromptEntry } from "../../core/prompts.ts";
import { App } from "../App.tsx";
import { fakeChat } from "../fake.ts";
import { REST_MS, Rest } from "./rest.ts";

const made: HTMLElement[] = [];

function put(): HTMLElement {
  const place = document.createElement("div");
  document.body.append(place);
  made.push(place);
  return place;
}

beforeEach(() => void vi.useFakeTimers());

afterEach(async () => {
  for (const place of made.splice(0)) {
    await act(() => render(null, place));
    place.remove();
  }
  vi.useRealTimers();
});

/** A card with a button of 100 by 40 pixels, `top` pixels down. */
function card(top = 0) {
  const place = put();
  const button = place.appendChild(document.createElement("button"));
  const move = (y: number) => {
    vi.spyOn(button, "getBoundingClientRect").mockReturnValue(new DOMRect(0, y, 100, 40));
  };
  move(top);
  const rest = new Rest(place);
  /** Whether a click there is held back; `detail` is 0 for a key. */
  const hasty = (y: number, detail = 1) => {
    let found: boolean | null = null;
    const look = (event: MouseEvent) => {
      found = rest.isHasty(event);
    };
    button.addEventListener("click", look, { once: true });
    button.dispatchEvent(new MouseEvent("click", { clientX: 50, clientY: y, detail }));
    return found;
  };
  return { move, rest, hasty };
}

test("a button that has just come takes no click of a pointer, and any of a key", () => {
  const { hasty } = card();
  vi.advanceTimersByTime(REST_MS - 1);
  expect(hasty(20)).toBe(true);
  expect(hasty(20, 2)).toBe(true);
  expect(hasty(20, 0)).toBe(false);
  vi.advanceTimersByTime(1);
  expect(hasty(20)).toBe(false);
});

test("a button that has just moved under the pointer takes no click of it", () => {
  const { move, rest, hasty } = card();
  vi.advanceTimersByTime(REST_MS);
  move(100);
  rest.look();
  vi.advanceTimersByTime(REST_MS - 1);
  expect(hasty(120)).toBe(true);
  vi.advanceTimersByTime(1);
  expect(hasty(120)).toBe(false);
});

test("a button that moves and stays under the pointer all the time is live", () => {
  const { move, rest, hasty } = card();
  for (let y = 0; y <= 20; y += 5) {
    vi.advanceTimersByTime(REST_MS / 2);
    move(y);
    rest.look();
  }
  expect(hasty(30)).toBe(false);
  expect(hasty(58)).toBe(true);
});

test("where a person scrolls a button to, it is clicked at once", () => {
  const { move, rest, hasty } = card();
  vi.advanceTimersByTime(REST_MS);
  rest.hand();
  move(100);
  rest.look();
  expect(hasty(120)).toBe(false);
});

test("a question is answered by a key at once, by a pointer when it has been there a moment", async () => {
  const chat = fakeChat("prompt-approval");
  const page = put();
  await act(() => render(<App chat={chat} />, page));
  const item = chat.current.value?.items.value.find((each) => each instanceof PromptEntry);
  if (!(item instanceof PromptEntry)) throw new Error("nothing is asked");
  const click = (detail: number) =>
    act(() => {
      const event = new MouseEvent("click", { bubbles: true, cancelable: true, detail });
      page.querySelector(".prompt-answers button")?.dispatchEvent(event);
    });
  await click(1);
  expect(item.answering.value).toBeNull();
  await act(() => void vi.advanceTimersByTime(REST_MS));
  await click(1);
  expect(item.answering.value).toEqual({ kind: "approval", approved: true });

  const other = fakeChat("prompt-approval");
  await act(() => render(<App chat={other} />, put()));
  const fresh = made.at(-1)?.querySelector<HTMLElement>(".prompt-answers button");
  const asked = other.current.value?.prompts.waiting.value[0];
  await act(() => void fresh?.dispatchEvent(new MouseEvent("click", { bubbles: true })));
  expect(asked?.answering.value).toEqual({ kind: "approval", approved: true });
});

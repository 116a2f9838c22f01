import { expect, test } from "vitest";
import { actionOf } from "./keys.ts";

const NONE = { ctrlKey: false, metaKey: false, shiftKey: false, altKey: false };

test("shortcuts with a modifier work while one writes, too", () => {
  for (const inText of [true, false]) {
    expect(actionOf({ ...NONE, key: "k", ctrlKey: true }, inText)).toBe("search");
    expect(actionOf({ ...NONE, key: "K", metaKey: true }, inText)).toBe("search");
    expect(actionOf({ ...NONE, key: "O", ctrlKey: true, shiftKey: true }, inText)).toBe("new");
  }
});

test("plain keys are text to whoever writes", () => {
  expect(actionOf({ ...NONE, key: "/" }, true)).toBeNull();
  expect(actionOf({ ...NONE, key: "?", shiftKey: true }, true)).toBeNull();
  expect(actionOf({ ...NONE, key: "/" }, false)).toBe("write");
  expect(actionOf({ ...NONE, key: "?", shiftKey: true }, false)).toBe("help");
});

test("a letter typed at nothing is meant for the message", () => {
  for (const key of ["a", "Ü", "7", "ж"]) {
    expect(actionOf({ ...NONE, key }, false)).toBe("type");
    expect(actionOf({ ...NONE, key }, true)).toBeNull();
    expect(actionOf({ ...NONE, key, ctrlKey: true }, false)).toBeNull();
  }
  for (const key of [" ", "Enter", "Tab", "ArrowUp", "F5"]) {
    expect(actionOf({ ...NONE, key }, false)).toBeNull();
  }
});

test("the browser keeps its own", () => {
  expect(actionOf({ ...NONE, key: "o", ctrlKey: true }, false)).toBeNull();
  expect(actionOf({ ...NONE, key: "k", ctrlKey: true, altKey: true }, false)).toBeNull();
  expect(actionOf({ ...NONE, key: "Escape" }, false)).toBeNull();
});

import { expect, test } from "vitest";
import { distance, sticks } from "./stick.ts";

const AT_BOTTOM = { top: 500, height: 1000, view: 500 };

test("growing text does not let go of the bottom", () => {
  expect(sticks(true, AT_BOTTOM, { ...AT_BOTTOM, height: 1400 })).toBe(true);
});

test("a small move upwards lets go at once", () => {
  expect(sticks(true, AT_BOTTOM, { ...AT_BOTTOM, top: 490 })).toBe(false);
});

test("growing text does not take hold of a person who reads above", () => {
  const above = { ...AT_BOTTOM, top: 200 };
  expect(sticks(false, above, { ...above, height: 1200 })).toBe(false);
});

test("coming near the bottom takes hold again, passing by does not", () => {
  expect(sticks(false, { ...AT_BOTTOM, top: 400 }, { ...AT_BOTTOM, top: 480 })).toBe(true);
  expect(sticks(false, { ...AT_BOTTOM, top: 400 }, AT_BOTTOM)).toBe(true);
  // The end came to the person, as when what was below them went away.
  expect(
    sticks(false, { top: 300, height: 1000, view: 500 }, { top: 300, height: 800, view: 500 }),
  ).toBe(true);
  expect(sticks(false, { ...AT_BOTTOM, top: 300 }, { ...AT_BOTTOM, top: 400 })).toBe(false);
});

test("text that became shorter leaves the view at the bottom", () => {
  expect(sticks(true, AT_BOTTOM, { top: 400, height: 900, view: 500 })).toBe(true);
});

test("a keyboard that goes away does not let go", () => {
  expect(
    sticks(true, { top: 700, height: 1000, view: 300 }, { top: 480, height: 1000, view: 500 }),
  ).toBe(true);
});

test("distance is never negative", () => {
  expect(distance({ top: 510, height: 1000, view: 500 })).toBe(0);
});

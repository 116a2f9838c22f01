import { expect, test } from "vitest";
import { fitted } from "./fit.ts";

const asked = (width: number | null = null, height: number | null = null) => ({ width, height });
const of = (width: number, height: number) => ({ width, height });

test("a picture keeps its proportions, whatever is asked for", () => {
  expect(fitted(asked(), of(100, 300), 700)).toEqual(of(100, 300));
  expect(fitted(asked(200), of(100, 300), 700)).toEqual(of(200, 600));
  expect(fitted(asked(30), of(60, 40), 700)).toEqual(of(30, 20));
  expect(fitted(asked(null, 60), of(100, 300), 700)).toEqual(of(20, 60));
  expect(fitted(asked(400, 400), of(100, 50), 700)).toEqual(of(400, 200));
});

test("a picture is no higher than the view, and stays in its proportions then", () => {
  expect(fitted(asked(200), of(100, 300), 450)).toEqual(of(150, 450));
  expect(fitted(asked(), of(1000, 4000), 700)).toEqual(of(128, 512));
  expect(fitted(asked(), of(1000, 4000), 400)).toEqual(of(100, 400));
  expect(fitted(asked(), of(1, 9999), -5)).toEqual(of(1, 1));
});

test("a picture without a size of its own is left as it is", () => {
  expect(fitted(asked(200), of(0, 0), 700)).toBeNull();
});

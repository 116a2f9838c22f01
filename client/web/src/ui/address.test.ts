import { expect, test } from "vitest";
import { appOf } from "./address.ts";

test("the app's name is the path's second part", () => {
  expect(appOf("/apps/demo")).toBe("demo");
  expect(appOf("/apps/demo/")).toBe("demo");
  expect(appOf("/apps/a%20b/anything")).toBe("a b");
});

test("other paths name no app, and a bad escape is taken as it is", () => {
  expect(appOf("/")).toBe("");
  expect(appOf("/apps/")).toBe("");
  expect(appOf("/apps/%zz")).toBe("%zz");
});

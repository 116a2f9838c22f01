import { expect, test } from "vitest";
import { imageSource, linkTarget } from "./urls.ts";

test("an image is loaded from data or from the files of this origin, from nowhere else here", () => {
  const data = "data:image/png;base64,AAAA";
  expect(imageSource(data)).toBe(data);
  const signed = "/files/f1/a.png?x=%2F";
  expect(imageSource(signed)).toBe(signed);
  const others = [
    "/",
    "/files",
    "/filesystem/a.png",
    "/apps/demo/v1/sessions",
    "/apps/demo/auth/sign-out?x=/files/",
    "/files/../apps/demo/v1/events",
    "/files/%2e%2e/apps/demo/v1/events",
    "/files/..\\apps",
    "/files/..%2Fapps",
    "/files/..%5capps",
    "//files/a.png",
    "files/a.png",
    "https://example.com/files/a.png",
  ];
  for (const href of others) {
    expect(imageSource(href), href).toBeNull();
  }
  expect(linkTarget("/apps/demo/v1/sessions")).toBe("/apps/demo/v1/sessions");
});

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buttonsOf, chipsOf, field, humanised, line, pictureOf, stepOf } from "./payload.ts";

const BASE = "https://chat.example/apps/demo";

describe("no payload breaks a check", () => {
  const anything = fc.dictionary(
    fc.constantFrom("items", "buttons", "label", "status", "detail", "url", "src", "alt", "width"),
    fc.oneof(fc.jsonValue(), fc.webUrl(), fc.string()),
  );

  test("whatever it holds", () => {
    fc.assert(
      fc.property(anything, (raw) => {
        const payload = raw as Record<string, unknown>;
        chipsOf(payload);
        buttonsOf(payload);
        stepOf(payload);
        const picture = pictureOf(payload, BASE);
        if (picture?.source) {
          expect(/^(data:image\/|https:\/\/chat\.example\/files\/)/i.test(picture.source)).toBe(
            true,
          );
        }
        if (picture?.elsewhere) expect(/^https?:/.test(picture.elsewhere)).toBe(true);
      }),
    );
  });
});

describe("an image", () => {
  const place = (url: unknown) => {
    const picture = pictureOf({ url }, BASE);
    return picture && (picture.source || `-> ${picture.elsewhere}`);
  };

  test("is loaded from here or from data only", () => {
    expect(place("/files/a.png")).toBe("https://chat.example/files/a.png");
    expect(place("data:image/png;base64,AAAA")).toBe("data:image/png;base64,AAAA");
    expect(place("https://evil.example/a.png")).toBe("-> https://evil.example/a.png");
    expect(place("//evil.example/a.png")).toBe("-> https://evil.example/a.png");
    expect(place("https://chat.example.evil.example/a")).toBe(
      "-> https://chat.example.evil.example/a",
    );
  });

  test("of this origin is loaded where it is a file; all else here is a link", () => {
    const here = "https://chat.example";
    expect(place(`${here}/files/f1/a.png?expires=1&signature=s`)).toBe(
      `${here}/files/f1/a.png?expires=1&signature=s`,
    );
    expect(place("/apps/demo/auth/sign-out")).toBe(`-> ${here}/apps/demo/auth/sign-out`);
    expect(place("a.png")).toBe(`-> ${here}/apps/a.png`);
    expect(place("/files/../metrics")).toBe(`-> ${here}/metrics`);
    expect(place("/files/%2e%2e/metrics")).toBe(`-> ${here}/metrics`);
    expect(place("/files/..%2Fmetrics")).toBe(`-> ${here}/files/..%2Fmetrics`);
    expect(place("/filesystem")).toBe(`-> ${here}/filesystem`);
  });

  test("is nothing with any other scheme", () => {
    const bad = [
      "javascript:alert(1)",
      "data:text/html,x",
      "blob:https://chat.example/1",
      "",
      7,
      null,
    ];
    for (const url of [...bad, "http://", "data:image/", "vbscript:x", { a: 1 }]) {
      expect(place(url)).toBeNull();
    }
  });

  test("has sizes that are numbers within reason", () => {
    const size = (width: unknown) => pictureOf({ url: "/a", width }, BASE)?.width;
    expect([size(320.4), size(1e9), size(0), size(-5), size("100"), size(Number.NaN)]).toEqual([
      320,
      4096,
      null,
      null,
      null,
      null,
    ]);
  });
});

test("suggestions are texts, or labels with a text", () => {
  const items = [
    "Yes",
    { label: "No", text: "No, thanks" },
    { label: "Maybe" },
    4,
    null,
    {},
    " ",
    [],
  ];
  expect(chipsOf({ items })).toEqual([
    { label: "Yes", text: "Yes" },
    { label: "No", text: "No, thanks" },
    { label: "Maybe", text: "Maybe" },
  ]);
  expect(chipsOf({ items: "Yes" })).toBeNull();
  expect(chipsOf({ items: [] })).toBeNull();
  expect(chipsOf({ items: new Array(500).fill("x") })).toHaveLength(12);
});

test("buttons need an action", () => {
  const buttons = [
    { label: "More", action: "more", payload: { by: 5 }, style: "primary" },
    { action: "less", style: "blink" },
    { label: "No action" },
    { label: "Not a text", action: { $ne: 1 } },
    "more",
  ];
  expect(buttonsOf({ buttons })).toEqual([
    { label: "More", action: "more", payload: { by: 5 }, style: "primary" },
    { label: "less", action: "less", payload: {}, style: "plain" },
  ]);
  expect(buttonsOf({ buttons: { length: 3 } })).toEqual([]);
});

test("a step needs a label, and a status that is known if it has one", () => {
  expect(stepOf({ label: "Search", status: "completed", detail: 5 })).toEqual({
    label: "Search",
    status: "completed",
    detail: "",
  });
  expect(stepOf({ label: "Search" })?.status).toBe("running");
  expect(stepOf({ status: "running" })).toBeNull();
  expect(stepOf({ label: "Search", status: "constructor" })).toBeNull();
});

test("inherited fields are not fields", () => {
  expect(field({}, "constructor")).toBeUndefined();
  expect(field({}, "__proto__")).toBeUndefined();
});

test("labels stay on one line and within their length", () => {
  expect(line(" a\n\n b\t c ")).toBe("a b c");
  expect(line("x".repeat(300))).toHaveLength(200);
  expect(line(3)).toBe("");
});

test("names are made readable", () => {
  expect(humanised("order_status")).toBe("Order status");
  expect(humanised("orderStatus")).toBe("Order status");
  expect(humanised("order.status-2")).toBe("Order status 2");
  expect(humanised("ETA")).toBe("ETA");
  expect(humanised("___")).toBe("___");
});

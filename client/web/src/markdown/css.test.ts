import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync("src/markdown/markdown.css", "utf8");

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a: string, b: string): number {
  const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

describe("the colours of code", () => {
  const colours = [...css.matchAll(/--code-(\w+): light-dark\((#\w{6}), (#\w{6})\)/g)];
  const surface = colours.find(([, name]) => name === "surface") ?? [];

  it("have a contrast of 4.5:1 in light and dark", () => {
    expect(colours.length).toBe(11);
    for (const [, name, light = "", dark = ""] of colours) {
      if (name === "surface") continue;
      expect(contrast(light, surface[2] ?? ""), `${name}, light`).toBeGreaterThanOrEqual(4.5);
      expect(contrast(dark, surface[3] ?? ""), `${name}, dark`).toBeGreaterThanOrEqual(4.5);
    }
  });
});

import { describe, expect, it, test } from "vitest";
import { fileAddress, isStale } from "./address.ts";
import { dimensions } from "./dimensions.ts";
import { dropped, pasted } from "./incoming.ts";
import { ending, isPicture, kindOf } from "./kinds.ts";

const NOW = new Date(2026, 0, 31, 9, 5, 7);

function transfer(files: readonly File[], texts: Record<string, string> = {}): DataTransfer {
  const types = [...Object.keys(texts), ...(files.length > 0 ? ["Files"] : [])];
  return { files, types, getData: (type: string) => texts[type] ?? "" } as unknown as DataTransfer;
}

const signed = (path: string, expires: number) => `${path}?expires=${expires}&signature=x`;
const screenshot = () => new File(["x"], "image.png", { type: "image/png" });

describe("what is pasted", () => {
  it("is called something that says what and when, where the browser calls it image.png", () => {
    const [file] = pasted(transfer([screenshot()]), NOW);
    expect(file?.name).toBe("Pasted picture 2026-01-31 at 09.05.07.png");
    expect(file?.type).toBe("image/png");
    expect(file?.size).toBe(1);
  });

  it("has names that differ where it is several", () => {
    const two = pasted(transfer([screenshot(), new File([], "", { type: "image/jpeg" })]), NOW);
    expect(two.map(({ name }) => name)).toEqual([
      "Pasted picture 2026-01-31 at 09.05.07 (1).png",
      "Pasted picture 2026-01-31 at 09.05.07 (2).jpg",
    ]);
  });

  it("keeps the names of files, also where their paths come along as text", () => {
    const report = new File([], "report.pdf", { type: "application/pdf" });
    expect(pasted(transfer([report], { "text/plain": "/home/me/report.pdf" }), NOW)).toEqual([
      report,
    ]);
  });

  it("is a picture that was copied from a page, and the text of a table", () => {
    const copied = transfer([screenshot()], { "text/html": "<img>" });
    expect(pasted(copied, NOW)).toHaveLength(1);
    const table = transfer([screenshot()], { "text/html": "<table>", "text/plain": "1\t2" });
    expect(pasted(table, NOW)).toEqual([]);
  });
});

test("folders that are dropped are counted, not taken", () => {
  const file = new File(["x"], "a.txt");
  const item = (isDirectory: boolean) => ({
    kind: "file",
    webkitGetAsEntry: () => ({ isDirectory }),
    getAsFile: () => file,
  });
  const items = [item(true), item(false), { kind: "string" }];
  expect(dropped({ items } as unknown as DataTransfer)).toEqual({ files: [file], folders: 1 });
});

describe("the address of a file", () => {
  it("is its path on the page's own origin, wherever the sidecar thinks it is", () => {
    const path = signed("/files/fil_1/a%20b.png", 1);
    expect(fileAddress(`https://chat.example:8443${path}`)).toBe(path);
  });

  it.each([
    "",
    "https://chat.example/apps/demo/v1/user",
    "https://chat.example/files/../apps/demo/auth/sign-out",
    "/files/%2e%2e/apps",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://[",
  ])("is none where it is not a file's: %s", (url) => {
    expect(fileAddress(url)).toBe("");
  });

  it("is stale within a day of its end, after it, and where it names none", () => {
    const at = (seconds: number) => signed("/files/fil_1/a", seconds);
    expect(isStale(at(200_000), 0)).toBe(false);
    expect(isStale(at(80_000), 0)).toBe(true);
    expect(isStale(at(10), 20_000)).toBe(true);
    expect(isStale("/files/fil_1/a", 0)).toBe(true);
    expect(isStale("", 0)).toBe(true);
  });
});

describe("how large a picture says it is", () => {
  const bytes = (...parts: (string | number[])[]) =>
    new Uint8Array(
      parts.flatMap((p) => (typeof p === "string" ? [...p].map((c) => c.charCodeAt(0)) : p)),
    );
  const tail = new Array<number>(16).fill(0);

  it("is read from a PNG", () => {
    const png = bytes([0x89], "PNG\r\n", [26, 10, 0, 0, 0, 13], "IHDR", [0, 0, 4, 0, 0, 0, 2, 1]);
    expect(dimensions(png)).toEqual({ width: 1024, height: 513 });
  });

  it("is read from a GIF", () => {
    expect(dimensions(bytes("GIF89a", [2, 1, 3, 0], tail))).toEqual({ width: 258, height: 3 });
  });

  it("is read from a WebP of each kind", () => {
    const webp = (...rest: (string | number[])[]) =>
      bytes("RIFF", [0, 0, 0, 0], "WEBP", ...rest, tail);
    const x = webp("VP8X", [0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 49, 0, 0]);
    expect(dimensions(x)).toEqual({ width: 100, height: 50 });
    const lossy = webp("VP8 ", [0, 0, 0, 0, 0, 0, 0, 0x9d, 1, 0x2a, 100, 0, 50, 0]);
    expect(dimensions(lossy)).toEqual({ width: 100, height: 50 });
    const bits = 99 | (49 << 14);
    const lossless = [
      0,
      0,
      0,
      0,
      0x2f,
      bits & 255,
      (bits >> 8) & 255,
      (bits >> 16) & 255,
      bits >>> 24,
    ];
    expect(dimensions(webp("VP8L", lossless))).toEqual({ width: 100, height: 50 });
  });

  it("is read from a JPEG, behind what a camera puts before it", () => {
    const exif = [0xff, 0xe1, 0, 6, 1, 2, 3, 4, 0xff];
    const frame = [0xff, 0xc2, 0, 11, 8, 1, 0, 2, 0];
    expect(dimensions(bytes([0xff, 0xd8], exif, frame))).toEqual({ width: 512, height: 256 });
  });

  it("is unknown where the file is something else, or ends too early", () => {
    expect(dimensions(bytes("hello, this is a text and no picture"))).toBeNull();
    expect(dimensions(bytes([0xff, 0xd8, 0xff, 0xe1, 0xff, 0xff]))).toBeNull();
    expect(dimensions(new Uint8Array())).toBeNull();
  });
});

test("kinds of files are told by their media types, and their endings by their names", () => {
  const types = [
    "image/svg+xml",
    "audio/ogg",
    "video/mp4",
    "application/zip",
    "text/csv",
    "",
    "x/y",
  ];
  expect(types.map(kindOf)).toEqual([
    "picture",
    "sound",
    "movie",
    "archive",
    "text",
    "other",
    "other",
  ]);
  expect(ending("a.tar.gz")).toBe("GZ");
  expect(ending("Makefile")).toBe("");
});

test("only pictures made of dots are shown, and none that is huge", () => {
  expect(isPicture("image/PNG; x=y", 10)).toBe(true);
  expect(isPicture("image/svg+xml", 10)).toBe(false);
  expect(isPicture("image/png", 21 * 1_048_576)).toBe(false);
});

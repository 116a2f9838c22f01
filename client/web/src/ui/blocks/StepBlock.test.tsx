import { type Signal, signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { expect, test } from "vitest";
import type { BlockItem, OpenSession, WorkEnd } from "../../core/model.ts";
import { block } from "../fakeItems.ts";
import type { Step } from "./payload.ts";
import { StepBlock } from "./StepBlock.tsx";

async function show(status: Step["status"], end: Signal<WorkEnd>): Promise<HTMLElement> {
  const place = document.createElement("div");
  const item: BlockItem = block("step", {});
  const session = { over: () => end.value } as unknown as OpenSession;
  const step = { label: "Read", status, detail: "" };
  await act(() => render(<StepBlock {...{ step, item, session }} />, place));
  return place;
}

test.each<[WorkEnd, string]>([
  ["stopped", "Read (Stopped)"],
  ["ended", "Read (Not finished)"],
])("a running step comes to rest when its turn is over: %s", async (how, said) => {
  const end = signal<WorkEnd>("");
  const place = await show("running", end);
  expect(place.textContent).toBe("Read (In progress)");
  expect(place.querySelector(".spinner")).not.toBeNull();
  await act(() => {
    end.value = how;
  });
  expect(place.textContent).toBe(said);
  expect(place.querySelector(".spinner")).toBeNull();
});

test("a step that has come to its own end keeps it", async () => {
  for (const [status, said] of [
    ["completed", "Done"],
    ["failed", "Failed"],
    ["pending", "Not begun"],
  ] as const) {
    const place = await show(status, signal<WorkEnd>("stopped"));
    expect(place.textContent).toBe(`Read (${said})`);
  }
});

import { render } from "preact";
import { act } from "preact/test-utils";
import { expect, test } from "vitest";
import { Dialog } from "./Dialog.tsx";

test.each([
  ["stays where a key pressed after Escape has put it", true],
  ["goes back to where it was before", false],
])("when a dialog is taken away, the focus %s", async (_, moved) => {
  document.body.innerHTML = '<button id="before"></button><input id="after"><div id="at"></div>';
  const at = document.getElementById("at") as HTMLElement;
  const [before, after] = ["before", "after"].map((id) => document.getElementById(id));
  before?.focus();
  await act(() =>
    render(
      <Dialog title="Help" onClose={() => undefined}>
        {null}
      </Dialog>,
      at,
    ),
  );
  if (moved) after?.focus();
  else (document.activeElement as HTMLElement | null)?.blur();
  await act(() => render(null, at));
  expect(document.activeElement).toBe(moved ? after : before);
});

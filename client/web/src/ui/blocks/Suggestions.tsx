import type { OpenSession } from "../../core/model.ts";
import { useUi } from "../state.ts";
import type { Chip } from "./payload.ts";

interface Props {
  readonly chips: readonly Chip[];
  readonly session: OpenSession;
}

/** Chips that send their text. */
export function Suggestions({ chips, session }: Props) {
  const ui = useUi();
  const closed = session.entry.value.state !== "open";
  const send = (chip: Chip) => {
    ui.chat.send(chip.text, true);
    ui.focusComposer();
  };
  return (
    <ul class="plain-list chips" aria-label="Suggestions">
      {chips.map((chip, index) => (
        // By place: two suggestions may be the same.
        <li key={index}>
          <button
            type="button"
            class="chip"
            dir="auto"
            title={chip.text === chip.label ? undefined : chip.text}
            disabled={closed}
            onClick={() => send(chip)}
          >
            {chip.label}
          </button>
        </li>
      ))}
    </ul>
  );
}

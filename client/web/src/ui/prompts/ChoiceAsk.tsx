/** One of several: a list to click, or to walk with the arrows; a long one can be filtered. */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { SearchIcon } from "../icons.tsx";
import { found } from "./filter.ts";
import type { PromptProps } from "./PromptCard.tsx";

/** Up to so many are seen at a glance. */
const GLANCE = 8;

interface Props extends PromptProps {
  readonly options: readonly string[];
}

export function ChoiceAsk({ item, session, options }: Props) {
  const filter = useSignal("");
  /** The option that Tab leads to. */
  const at = useSignal(0);
  const list = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const answering = item.answering.value;
  const shown = found(options, filter.value);
  const current = Math.min(at.value, shown.length - 1);
  const long = options.length > GLANCE;

  const pick = (option: number) => void session.prompts.answer(item, { kind: "choice", option });
  const go = (to: number) => {
    at.value = Math.max(0, Math.min(to, shown.length - 1));
    list.current?.querySelectorAll<HTMLElement>("button")[at.value]?.focus();
  };
  const onListKey = (event: KeyboardEvent) => {
    const to = moved(event, current, shown.length);
    if (to !== null) {
      event.preventDefault();
      if (to < 0 && long) field.current?.focus();
      else go(to);
    } else if (long && isLetter(event)) {
      event.stopPropagation(); // It is meant for the filter, not for the message.
      field.current?.focus();
    }
  };
  const onFieldKey = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") {
      event.preventDefault();
      go(0);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const [only] = shown;
      if (only && shown.length === 1) pick(only.index);
      else go(0);
    } else if (event.key === "Escape" && filter.value) {
      event.preventDefault();
      event.stopPropagation();
      filter.value = "";
    }
  };

  return (
    <div class="prompt-choice">
      {long && (
        <label class="option-filter">
          <SearchIcon size={17} />
          <span class="sr-only">Filter the {options.length} options</span>
          <input
            ref={field}
            type="text"
            value={filter.value}
            placeholder={`Filter ${options.length} options`}
            autocomplete="off"
            dir="auto"
            enterkeyhint="go"
            onInput={(event) => {
              filter.value = event.currentTarget.value;
              at.value = 0;
            }}
            onKeyDown={onFieldKey}
          />
        </label>
      )}
      {/* biome-ignore-start lint/a11y/useSemanticElements: a fieldset that scrolls is not the same everywhere */}
      {/* biome-ignore-start lint/a11y/noNoninteractiveElementInteractions: the arrows walk its buttons */}
      <div
        ref={list}
        class="options"
        data-long={long || undefined}
        role="group"
        aria-label="Options"
        onKeyDown={onListKey}
      >
        {shown.map(({ label, index }, place) => (
          <button
            key={index}
            type="button"
            class="option"
            tabIndex={place === current ? 0 : -1}
            data-picked={(answering?.kind === "choice" && answering.option === index) || undefined}
            aria-disabled={answering !== null || undefined}
            onFocus={() => {
              at.value = place;
            }}
            onClick={() => pick(index)}
          >
            <span dir="auto">{label}</span>
          </button>
        ))}
      </div>
      {/* biome-ignore-end lint/a11y/noNoninteractiveElementInteractions: see above */}
      {/* biome-ignore-end lint/a11y/useSemanticElements: see above */}
      {long && (
        <p class="options-found" role="status">
          {filter.value && (shown.length ? `${shown.length} of ${options.length}` : "None fits")}
        </p>
      )}
    </div>
  );
}

/** Where a key leads to; null: nowhere. -1: above the first. */
function moved(event: KeyboardEvent, from: number, count: number): number | null {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  switch (event.key) {
    case "ArrowDown":
      return Math.min(from + 1, count - 1);
    case "ArrowUp":
      return from - 1;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    case "PageDown":
      return Math.min(from + 5, count - 1);
    case "PageUp":
      return Math.max(from - 5, 0);
    default:
      return null;
  }
}

function isLetter({ key, ctrlKey, metaKey, altKey }: KeyboardEvent): boolean {
  return !ctrlKey && !metaKey && !altKey && /^[\p{L}\p{N}]$/u.test(key);
}

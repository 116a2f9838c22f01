/** What waits for the person where they do not see it: scrolled away, or before what is loaded. */
import { type Signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import type { OpenSession, PromptItem } from "../../core/model.ts";
import { CloseIcon, DownIcon } from "../icons.tsx";
import { cardId, PromptCard } from "./PromptCard.tsx";
import { questionLine } from "./words.ts";

interface Props {
  readonly session: OpenSession;
  /** Brings a card into view. */
  readonly reveal: (card: HTMLElement) => void;
}

/** More pages than this are not fetched for one prompt: it can be answered where it is. */
const MOST_PAGES = 40;

/** Leads to an open prompt that is scrolled out of view. */
export function AwayPrompt({ session, reveal }: Props) {
  const away = useSignal<{ item: PromptItem; up: boolean } | null>(null);
  useSignalEffect(() => {
    const items = new Set(session.items.value);
    const waiting = session.prompts.waiting.value.filter((item) => items.has(item));
    if (waiting.length === 0) {
      away.value = null;
      return;
    }
    let end: (() => void) | undefined;
    // When the cards are there.
    const frame = requestAnimationFrame(() => {
      end = watch(waiting, away);
    });
    return () => {
      cancelAnimationFrame(frame);
      end?.();
    };
  });
  if (!away.value) return null;
  const { item, up } = away.value;
  return (
    <button
      type="button"
      class="jump away-prompt"
      data-up={up || undefined}
      title={questionLine(item)}
      onClick={() => show(item, reveal)}
    >
      <DownIcon size={18} />
      Waiting for your answer
    </button>
  );
}

/** Keeps `away` the first of the prompts while none of them is in view. */
function watch(
  waiting: readonly PromptItem[],
  away: Signal<{ item: PromptItem; up: boolean } | null>,
): () => void {
  const seen = new Map<Element, IntersectionObserverEntry>();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) seen.set(entry.target, entry);
    const [first] = waiting;
    const card = first && document.getElementById(cardId(first));
    const place = card && seen.get(card);
    const hidden = [...seen.values()].every((entry) => !entry.isIntersecting);
    const up = (place?.boundingClientRect.top ?? 0) < (place?.rootBounds?.top ?? 0);
    away.value = first && place && hidden ? { item: first, up } : null;
  });
  for (const item of waiting) {
    const card = document.getElementById(cardId(item));
    if (card) observer.observe(card);
  }
  return () => observer.disconnect();
}

function show(item: PromptItem, reveal: (card: HTMLElement) => void): boolean {
  const card = document.getElementById(cardId(item));
  if (!card) return false;
  reveal(card);
  // Whoever asked for it goes on there.
  card.focus({ preventScroll: true });
  return true;
}

/** Open prompts that lie before what is loaded, above the composer: they are answered there. */
export function PinnedPrompts({ session, reveal }: Props) {
  /** Those that were shown here: what came of them is to be read, until it is put away. */
  const kept = useSignal<readonly PromptItem[]>([]);
  const shown = useComputed(() => {
    const { waiting } = session.prompts;
    if (session.loading.value || (kept.value.length === 0 && waiting.value.length === 0)) return [];
    const loaded = new Set(session.items.value.map((item) => item.key));
    const away = [...new Set([...kept.value, ...waiting.value])];
    return away.filter((item) => !loaded.has(item.key));
  });
  useSignalEffect(() => {
    const missing = shown.value.filter((item) => !kept.peek().includes(item));
    if (missing.length > 0) kept.value = [...kept.peek(), ...missing];
  });
  const loading = useSignal("");
  const find = async (item: PromptItem) => {
    if (loading.value) return;
    loading.value = item.key;
    for (let page = 0; page < MOST_PAGES && session.hasOlder.peek(); page++) {
      const first = session.items.peek()[0]?.key;
      await session.loadOlder();
      const here = session.items.peek();
      if (here.some((each) => each.key === item.key) || here[0]?.key === first) break;
    }
    loading.value = "";
    requestAnimationFrame(() => show(item, reveal));
  };
  if (shown.value.length === 0) return null;
  return (
    <section class="pinned" aria-label="Waiting for your answer">
      <div class="pinned-column">
        {shown.value.map((item) => (
          <Pinned
            key={item.key}
            item={item}
            session={session}
            finding={loading.value === item.key}
            onFind={() => void find(item)}
            onClose={() => {
              kept.value = kept.value.filter((each) => each !== item);
            }}
          />
        ))}
      </div>
    </section>
  );
}

interface PinnedProps {
  readonly item: PromptItem;
  readonly session: OpenSession;
  readonly finding: boolean;
  readonly onFind: () => void;
  readonly onClose: () => void;
}

function Pinned({ item, session, finding, onFind, onClose }: PinnedProps) {
  const open = item.status.value === "open";
  return (
    <div class="pinned-prompt">
      <div class="pinned-head">
        <p>{open ? "Waiting for your answer" : "Asked further up"}</p>
        {session.hasOlder.value && (
          <button
            type="button"
            class="button quiet"
            aria-label="Show in the conversation"
            aria-disabled={finding}
            onClick={onFind}
          >
            {finding && <span class="spinner" />}
            Show
          </button>
        )}
        {!open && (
          <button type="button" class="icon-button" aria-label="Put it away" onClick={onClose}>
            <CloseIcon size={18} />
          </button>
        )}
      </div>
      <PromptCard item={item} session={session} />
    </div>
  );
}

/** Watches the session on screen for answers: reads them aloud, and marks the title of a hidden tab. */
import { effect, signal, untracked } from "@preact/signals";
import type { MessageItem, OpenSession, PromptItem } from "../core/model.ts";
import { Reader } from "../markdown/plain.ts";
import { endWords, questionLine } from "./prompts/words.ts";
import { titleOf, type Ui } from "./state.ts";

/** Between two looks at a text that streams. */
const PAUSE_MS = 1200;

/** Begins to watch; the function that is returned ends it. */
export function watchAnswers(ui: Ui): () => void {
  const unseen = signal(0);
  const answered = () => {
    if (document.hidden) unseen.value += 1;
  };
  const onVisible = () => {
    if (!document.hidden) unseen.value = 0;
  };
  document.addEventListener("visibilitychange", onVisible);
  const endTitle = effect(() => {
    const entry = ui.chat.current.value?.entry.value;
    document.title = pageTitle(ui.chat.app, entry ? titleOf(entry) : "", unseen.value);
  });
  const endReading = effect(() => {
    const session = ui.chat.current.value;
    return session ? untracked(() => listen(session, ui, answered)) : undefined;
  });
  return () => {
    document.removeEventListener("visibilitychange", onVisible);
    endTitle();
    endReading();
  };
}

/** Returns the title of the tab; `unseen` answers came while it was hidden. */
export function pageTitle(app: string, title: string, unseen: number): string {
  const name = title && title !== app ? `${title} · ${app}` : app;
  return unseen ? `(${unseen}) ${name}` : name;
}

function listen(session: OpenSession, ui: Ui, answered: () => void): () => void {
  const endReading = readAloud(session, ui, answered);
  const endAsking = tellPrompts(session, ui, answered);
  return () => {
    endReading();
    endAsking();
  };
}

/** Says what the app asks from now on, and what came of what it has asked. */
function tellPrompts(session: OpenSession, ui: Ui, asked: () => void): () => void {
  const known = new Set<string>();
  let waiting: readonly PromptItem[] = [];
  let begun = false;
  return effect(() => {
    const now = session.prompts.waiting.value;
    if (session.loading.value) return;
    for (const item of now) {
      if (known.has(item.key)) continue;
      known.add(item.key);
      if (begun) {
        ui.announcer.say(`${ui.chat.app} asks: ${questionLine(item)}`);
        asked();
      }
    }
    for (const item of waiting) {
      if (!now.includes(item)) ui.announcer.say(untracked(() => endWords(item)));
    }
    waiting = now;
    begun = true;
  });
}

/** Reads what comes from now on; what was there when the session was opened is known. */
function readAloud(session: OpenSession, ui: Ui, answered: () => void): () => void {
  const readers = new Map<string, () => void>();
  let known: Set<string> | null = null;
  const end = effect(() => {
    const { value: items } = session.items;
    if (session.loading.value) return;
    if (!known) {
      known = new Set(items.filter((item) => !streams(item)).map((item) => item.key));
    }
    // Only the newest: older pages come in above.
    for (const item of items.slice(-8)) {
      if (item.kind !== "message" || item.sender !== "app" || known.has(item.key)) continue;
      known.add(item.key);
      const ended = () => {
        readers.delete(item.key);
        answered();
      };
      readers.set(
        item.key,
        untracked(() => readOne(item, ui, ended)),
      );
    }
  });
  return () => {
    end();
    for (const stop of readers.values()) stop();
  };
}

function streams(item: OpenSession["items"]["value"][number]): boolean {
  return item.kind === "message" && item.streaming.peek();
}

function readOne(item: MessageItem, ui: Ui, done: () => void): () => void {
  let reader = new Reader();
  let length = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  const look = () => {
    const text = item.text.peek();
    // It was cut: the app was started again and writes anew.
    if (text.length < length) reader = new Reader();
    length = text.length;
    ui.announcer.say(reader.next(text, !over));
  };
  const tick = () => {
    look();
    timer = setTimeout(tick, PAUSE_MS);
  };
  timer = setTimeout(tick, PAUSE_MS);
  const end = effect(() => {
    if (item.streaming.value || over) return;
    over = true;
    clearTimeout(timer);
    look();
    done();
  });
  return () => {
    clearTimeout(timer);
    end();
  };
}

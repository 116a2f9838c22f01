/** What the page itself remembers: which drawer, menu or dialog is open. Nothing of a conversation. */
import { type Signal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Chat, SessionEntry } from "../core/model.ts";
import { Announcer } from "./announcer.ts";
import { createTheme, type ThemeChoice } from "./theme.ts";

export type OpenDialog =
  | { readonly kind: "help" }
  | { readonly kind: "delete"; readonly session: SessionEntry };

export interface OpenMenu {
  readonly session: SessionEntry;
  /** The button it hangs on, which gets the focus back. */
  readonly anchor: HTMLElement;
}

export interface Ui {
  readonly chat: Chat;
  readonly theme: ThemeChoice;
  readonly announcer: Announcer;
  /** Below 768 px the session list is a drawer. */
  readonly narrow: Signal<boolean>;
  readonly drawer: Signal<boolean>;
  readonly dialog: Signal<OpenDialog | null>;
  readonly menu: Signal<OpenMenu | null>;
  /** The session whose title is being edited in the list. */
  readonly renaming: Signal<string>;
  /** Puts the focus into the composer; set by the composer while it is there. */
  focusComposer(): void;
  focusSearch(): void;
  newChat(): void;
}

export const COMPOSER_ID = "composer-text";
export const DRAWER_BUTTON_ID = "drawer-button";
export const SEARCH_ID = "session-search";

export function createUi(chat: Chat): Ui {
  const query = matchMedia("(max-width: 767.98px)");
  const narrow = signal(query.matches);
  const drawer = signal(false);
  query.addEventListener("change", () => {
    narrow.value = query.matches;
    drawer.value = false;
  });
  return {
    chat,
    theme: createTheme(),
    announcer: new Announcer(),
    narrow,
    drawer,
    dialog: signal<OpenDialog | null>(null),
    menu: signal<OpenMenu | null>(null),
    renaming: signal(""),
    focusComposer: () => focusSoon(COMPOSER_ID),
    focusSearch() {
      if (narrow.value) drawer.value = true;
      focusSoon(SEARCH_ID);
    },
    newChat() {
      drawer.value = false;
      chat.newChat();
      focusSoon(COMPOSER_ID);
    },
  };
}

/** After the next rendering: what gets the focus may not be there, or not be reachable, yet. */
function focusSoon(id: string): void {
  requestAnimationFrame(() => document.getElementById(id)?.focus());
}

const Context = createContext<Ui | null>(null);
export const UiProvider = Context.Provider;

export function useUi(): Ui {
  const ui = useContext(Context);
  if (!ui) throw new Error("a component is outside of the page");
  return ui;
}

/** Whether the keys of the person's device are on the screen: there, Enter breaks the line. */
export function touchOnly(): boolean {
  return matchMedia("(hover: none) and (pointer: coarse)").matches;
}

/** Returns what a session is called where it has no title of its own. */
export function titleOf(entry: SessionEntry): string {
  return entry.title.trim() || "New chat";
}

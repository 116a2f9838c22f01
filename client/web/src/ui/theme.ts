/** Light or dark: the system's choice, or the person's, which is remembered. */
import { type ReadonlySignal, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

/** Also read by `public/assets/theme-1.js`, which sets the theme before the first paint. */
const KEY = "capsule.theme";

export interface ThemeChoice {
  readonly value: ReadonlySignal<Theme>;
  set(theme: Theme): void;
}

export function createTheme(root: HTMLElement = document.documentElement): ThemeChoice {
  const value = signal<Theme>(remembered());
  apply(root, value.value);
  return {
    value,
    set(theme) {
      value.value = theme;
      apply(root, theme);
      try {
        if (theme === "system") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, theme);
      } catch {
        // A browser without storage: the choice lasts as long as the page.
      }
    },
  };
}

function remembered(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

function apply(root: HTMLElement, theme: Theme): void {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
}

import { MoonIcon, SunIcon, SystemIcon } from "./icons.tsx";
import { useUi } from "./state.ts";
import type { Theme } from "./theme.ts";

const CHOICES = [
  ["light", "Light", SunIcon],
  ["system", "As the system", SystemIcon],
  ["dark", "Dark", MoonIcon],
] as const satisfies readonly (readonly [Theme, string, unknown])[];

export function ThemeSwitch() {
  const { theme } = useUi();
  return (
    <fieldset class="theme-switch">
      <legend class="sr-only">Colours</legend>
      {CHOICES.map(([value, label, Icon]) => (
        <label key={value} title={label}>
          <input
            type="radio"
            name="theme"
            value={value}
            checked={theme.value.value === value}
            onChange={() => theme.set(value)}
          />
          <Icon size={17} />
          <span class="sr-only">{label}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** What is there instead of a conversation. */
import { Mark } from "./icons.tsx";
import { useUi } from "./state.ts";

export function Starting() {
  return (
    <main class="screen" id="main">
      <h1 class="sr-only">{useUi().chat.app}</h1>
      <p class="late" role="status">
        <span class="spinner" />
        <span class="sr-only">Starting</span>
      </p>
    </main>
  );
}

export function SignedOut() {
  const { chat } = useUi();
  return (
    <main class="screen" id="main">
      <Mark size={48} />
      <h1>You are signed out</h1>
      <p>
        {chat.app} does not let guests in. Sign in where you usually do, then come back to this
        page.
      </p>
      <button type="button" class="button primary" onClick={() => location.reload()}>
        Try again
      </button>
    </main>
  );
}

export function Gone() {
  const { chat } = useUi();
  return (
    <main class="screen" id="main">
      <Mark size={48} />
      <h1>There is no such app</h1>
      <p>
        Nothing answers to the name <strong>{chat.app}</strong> here. It may have been renamed, or
        the address may have a slip of the pen in it.
      </p>
      <a class="button primary" href="/">
        To the first page
      </a>
    </main>
  );
}

export function Greeting() {
  const { chat } = useUi();
  return (
    <div class="greeting">
      <Mark size={52} />
      <p class="greeting-text">{goodDay(new Date().getHours())}</p>
      <p class="greeting-app">
        This is <strong>{chat.app}</strong>. What can it do for you?
      </p>
    </div>
  );
}

export function goodDay(hour: number): string {
  if (hour < 5) return "Good evening";
  if (hour < 12) return "Good morning";
  return hour < 18 ? "Good afternoon" : "Good evening";
}

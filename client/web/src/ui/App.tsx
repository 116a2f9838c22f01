import { useEffect, useMemo } from "preact/hooks";
import type { Chat } from "../core/model.ts";
import { watchAnswers } from "./answers.ts";
import { DropZone } from "./attachments/DropZone.tsx";
import { AppOfflineNote, ConnectionBanner } from "./Banners.tsx";
import { Composer } from "./Composer.tsx";
import { Dialogs } from "./Dialogs.tsx";
import { HelpIcon, MenuIcon, PenIcon } from "./icons.tsx";
import { listenToKeys } from "./keys.ts";
import { Menu } from "./Menu.tsx";
import { Gone, Greeting, SignedOut, Starting } from "./Screens.tsx";
import { Sidebar } from "./Sidebar.tsx";
import { COMPOSER_ID, createUi, DRAWER_BUTTON_ID, titleOf, UiProvider, useUi } from "./state.ts";
import { Timeline } from "./Timeline.tsx";
import { Toasts } from "./Toasts.tsx";

export function App({ chat }: { readonly chat: Chat }) {
  const ui = useMemo(() => createUi(chat), [chat]);
  useEffect(() => listenToKeys(ui), [ui]);
  useEffect(() => watchAnswers(ui), [ui]);
  return (
    <UiProvider value={ui}>
      <Page />
      <Toasts />
      <Dialogs />
      <Menu />
      <LiveRegion />
    </UiProvider>
  );
}

function Page() {
  const { chat } = useUi();
  switch (chat.access.value) {
    case "starting":
      return <Starting />;
    case "signed-out":
      return <SignedOut />;
    case "gone":
      return <Gone />;
    case "ready":
      return <Shell />;
  }
}

function Shell() {
  const ui = useUi();
  const covered = ui.narrow.value && ui.drawer.value;
  return (
    <div class="shell">
      {/* biome-ignore lint/a11y/useValidAnchor: it leads within the page; the address is the session's */}
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // The address after # is the session's.
          event.preventDefault();
          ui.drawer.value = false;
          // A chat that is closed has no composer.
          if (document.getElementById(COMPOSER_ID)) ui.focusComposer();
          else document.querySelector<HTMLElement>("#main .scroller")?.focus();
        }}
      >
        Skip to the message
      </a>
      <Sidebar />
      <main class="chat" id="main" inert={covered} data-empty={!ui.chat.current.value || undefined}>
        <Header />
        <ConnectionBanner />
        <Conversation />
        <div class="dock">
          <div class="dock-column">
            <AppOfflineNote />
            <Composer />
          </div>
        </div>
        <DropZone />
      </main>
    </div>
  );
}

function Header() {
  const ui = useUi();
  const entry = ui.chat.current.value?.entry.value;
  return (
    <header class="chat-head">
      {ui.narrow.value && (
        <button
          type="button"
          id={DRAWER_BUTTON_ID}
          class="icon-button"
          aria-label="Show the chats"
          aria-expanded={ui.drawer.value}
          onClick={() => {
            ui.drawer.value = true;
          }}
        >
          <MenuIcon />
        </button>
      )}
      <h1 dir="auto">
        {entry ? titleOf(entry) : <span class="sr-only">New chat with {ui.chat.app}</span>}
      </h1>
      {ui.narrow.value ? (
        <button type="button" class="icon-button" aria-label="New chat" onClick={ui.newChat}>
          <PenIcon />
        </button>
      ) : (
        <button
          type="button"
          class="icon-button"
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts"
          onClick={() => {
            ui.dialog.value = { kind: "help" };
          }}
        >
          <HelpIcon />
        </button>
      )}
    </header>
  );
}

function Conversation() {
  const { chat } = useUi();
  const session = chat.current.value;
  return session ? <Timeline key={session.key} session={session} /> : <Greeting />;
}

function LiveRegion() {
  const { announcer } = useUi();
  return (
    <div class="sr-only" aria-live="polite" aria-relevant="additions" id="announcer">
      {announcer.lines.value.map((line) => (
        <p key={line.id}>{line.text}</p>
      ))}
    </div>
  );
}

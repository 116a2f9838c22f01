/** The session list: beside the conversation, or a drawer over it where the window is narrow. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { grouped } from "./grouping.ts";
import { CloseIcon, PenIcon, SearchIcon } from "./icons.tsx";
import { SessionRow } from "./SessionRow.tsx";
import { DRAWER_BUTTON_ID, SEARCH_ID, useUi } from "./state.ts";
import { ThemeSwitch } from "./ThemeSwitch.tsx";

const SEARCH_DELAY_MS = 150;

export function Sidebar() {
  const ui = useUi();
  const ref = useRef<HTMLElement>(null);
  const drawer = ui.narrow.value;
  const open = ui.drawer.value;

  useEffect(() => {
    if (!drawer || !open) return;
    const aside = ref.current;
    if (!aside?.contains(document.activeElement)) {
      aside?.querySelector<HTMLElement>("button, input, a")?.focus();
    }
    return () => {
      const active = document.activeElement;
      if (active === document.body || aside?.contains(active)) {
        document.getElementById(DRAWER_BUTTON_ID)?.focus();
      }
    };
  }, [drawer, open]);

  const close = () => {
    ui.drawer.value = false;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || event.defaultPrevented || !drawer) return;
    event.preventDefault();
    close();
  };

  return (
    <>
      {drawer && (
        <div class="veil" data-open={open || undefined} onClick={close} aria-hidden="true" />
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveElementInteractions: Escape, from whatever is inside */}
      <aside
        ref={ref}
        class="sidebar"
        aria-label="Chats"
        data-open={open || undefined}
        inert={drawer && !open}
        onKeyDown={onKeyDown}
      >
        <div class="sidebar-head">
          <p class="brand">{ui.chat.app}</p>
          {drawer && (
            <button type="button" class="icon-button" aria-label="Close the list" onClick={close}>
              <CloseIcon />
            </button>
          )}
        </div>
        <div class="sidebar-tools">
          <button type="button" class="new-chat" onClick={ui.newChat}>
            <PenIcon />
            New chat
          </button>
          <Search />
        </div>
        <SessionList />
        <div class="sidebar-foot">
          <ThemeSwitch />
        </div>
      </aside>
    </>
  );
}

function Search() {
  const { chat } = useUi();
  const text = useSignal(chat.query.peek());
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const search = (value: string, now = false) => {
    text.value = value;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => chat.search(value.trim()), now ? 0 : SEARCH_DELAY_MS);
  };
  return (
    <search class="search">
      <SearchIcon size={17} />
      <input
        id={SEARCH_ID}
        type="search"
        placeholder="Search"
        aria-label="Search the chats"
        autocomplete="off"
        dir="auto"
        spellcheck={false}
        value={text.value}
        onInput={(event) => search(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || !text.value) return;
          event.preventDefault();
          search("", true);
        }}
      />
      {text.value && (
        <button
          type="button"
          class="icon-button small"
          aria-label="Clear the search"
          onClick={() => {
            search("", true);
            document.getElementById(SEARCH_ID)?.focus();
          }}
        >
          <CloseIcon size={15} />
        </button>
      )}
    </search>
  );
}

function SessionList() {
  const { chat } = useUi();
  const sessions = chat.sessions.value;
  const current = chat.current.value?.id ?? "";
  const query = chat.query.value;
  if (sessions.length === 0) {
    const ready = chat.access.value === "ready";
    return (
      <div class="session-list">
        {ready && (
          <p class="list-note" role="status">
            {query ? (
              <>
                No chat matches “<bdi>{query}</bdi>”.
              </>
            ) : (
              "Your chats will be listed here."
            )}
          </p>
        )}
      </div>
    );
  }
  return (
    <nav class="session-list" aria-label={query ? "Chats that match" : "Your chats"}>
      {grouped(sessions, new Date()).map((group) => (
        <section key={group.label}>
          <h2>{group.label}</h2>
          <ul class="plain-list">
            {group.entries.map((entry) => (
              <SessionRow key={entry.id} entry={entry} active={entry.id === current} />
            ))}
          </ul>
        </section>
      ))}
      {chat.hasMoreSessions.value && <LoadMore />}
    </nav>
  );
}

function LoadMore() {
  const { chat } = useUi();
  const loading = useSignal(false);
  const load = async () => {
    if (loading.value) return;
    loading.value = true;
    try {
      await chat.moreSessions();
    } finally {
      loading.value = false;
    }
  };
  return (
    <button type="button" class="load-more" onClick={load} aria-disabled={loading.value}>
      {loading.value ? "Loading…" : "Show more"}
    </button>
  );
}

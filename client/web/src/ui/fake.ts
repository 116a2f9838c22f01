/**
 * A made-up chat in any state, to look at the page without a sidecar; not part of the build.
 *
 * States: see `STATES`; `chat` answers what one sends.
 */
import { computed, type Signal, signal } from "@preact/signals";
import type {
  Chat,
  Connection,
  Notice,
  OpenSession,
  SessionEntry,
  StatusLine,
  TimelineEntry,
  WorkEnd,
} from "../core/model.ts";
import type { PromptEntry } from "../core/prompts.ts";
import type { Uploader } from "../core/uploads.ts";
import { ANSWER, SHORT, TITLES } from "./fakeData.ts";
import { FakeFiles, fakeUploader, uploads } from "./fakeFiles.ts";
import { blocks, conversation, ended, type Message, message, withFiles } from "./fakeItems.ts";
import { ask, endings, FakePrompts } from "./fakePrompts.ts";
import { endedTasks, waitingTasks } from "./fakeTasks.ts";

class FakeSession implements OpenSession {
  readonly items = signal<readonly TimelineEntry[]>([]);
  readonly loading = signal(false);
  readonly hasOlder = signal(false);
  readonly loadingOlder = signal(false);
  readonly statusLines = signal<readonly StatusLine[]>([]);
  readonly busy = signal(false);
  readonly stopping = signal(false);
  readonly prompts: FakePrompts;
  /** How turns have ended. */
  readonly ends = signal<ReadonlyMap<string, WorkEnd>>(new Map());
  private pages = 0;

  readonly key: string;

  constructor(
    readonly id: string,
    readonly entry: Signal<SessionEntry>,
    uploader: Uploader,
  ) {
    this.key = id;
    this.prompts = new FakePrompts(this.items, uploader);
  }

  add<T extends TimelineEntry>(item: T): T {
    this.items.value = [...this.items.value, item];
    return item;
  }

  async loadOlder(): Promise<void> {
    this.loadingOlder.value = true;
    await new Promise((done) => setTimeout(done, 300));
    this.pages += 1;
    const older = conversation(50, 86_400_000 * this.pages);
    this.items.value = [...older, ...this.items.value];
    this.hasOlder.value = this.pages < 10;
    this.loadingOlder.value = false;
  }

  resend(key: string): void {
    const item = this.items.value.find((one) => one.key === key) as Message | undefined;
    if (!item) return;
    item.delivery.value = "sending";
    setTimeout(() => {
      item.delivery.value = "sent";
    }, 1500);
  }

  discard(key: string): string {
    const item = this.items.value.find((one) => one.key === key) as Message | undefined;
    this.items.value = this.items.value.filter((one) => one.key !== key);
    return item?.text.value ?? "";
  }

  async stop(): Promise<void> {
    this.stopping.value = true;
    await new Promise((done) => setTimeout(done, 700));
    this.stopping.value = false;
    this.busy.value = false;
  }

  over(invocationId: string): WorkEnd {
    return this.ends.value.get(invocationId) ?? "";
  }

  async act(): Promise<void> {
    await new Promise((done) => setTimeout(done, 600));
  }

  /** Streams an answer, about 200 deltas a second. */
  stream(text: string): void {
    this.busy.value = true;
    setTimeout(() => {
      const item = message("app", "");
      item.streaming.value = true;
      this.add(item);
      let at = 0;
      const timer = setInterval(() => {
        at += 3;
        item.text.value = text.slice(0, at);
        if (at < text.length && this.busy.value) return;
        clearInterval(timer);
        item.streaming.value = false;
        item.interrupted.value = at < text.length;
        this.busy.value = false;
      }, 5);
    }, 1200);
  }
}

/** A question at the end of a short conversation. */
function asked(session: FakeSession, item: PromptEntry): PromptEntry {
  session.items.value = [message("user", "Plan my trip, and tell everybody"), item];
  session.busy.value = true;
  return item;
}

const FILL: Record<string, (session: FakeSession, set: Setters) => void> = {
  chat: (s) => {
    s.items.value = [message("user", "What is a lease, in short?"), message("app", ANSWER)];
  },
  long: (s) => {
    s.items.value = conversation(60);
    s.hasOlder.value = true;
  },
  huge: (s) => {
    s.items.value = conversation(3000);
  },
  days: (s) => {
    s.items.value = [
      ...conversation(2, 86_400_000 * 3),
      ...conversation(2, 86_400_000),
      ...conversation(2),
    ];
  },
  streaming: (s) => {
    s.items.value = [message("user", "What is a lease, in short?")];
    const item = message("app", ANSWER.slice(0, 260));
    item.streaming.value = true;
    s.add(item);
    s.busy.value = true;
  },
  awaiting: (s) => {
    s.items.value = [message("user", "What is a lease, in short?")];
    s.busy.value = true;
  },
  status: (s) => {
    s.items.value = [message("user", "What is a lease, in short?")];
    s.busy.value = true;
    s.statusLines.value = [
      { invocationId: "i1", text: "Searching the archive…", detail: "42 of 310 documents" },
    ];
  },
  stopping: (s) => {
    FILL.streaming?.(s, {} as Setters);
    s.stopping.value = true;
  },
  sending: (s) => {
    s.items.value = [...conversation(2), message("user", "And this one is on its way.")];
    (s.items.value.at(-1) as Message).delivery.value = "sending";
  },
  failed: (s) => {
    s.items.value = [...conversation(2), message("user", "This one did not make it.")];
    const item = s.items.value.at(-1) as Message;
    item.delivery.value = "failed";
    item.problem.value = "too many messages wait already. Try again in a moment.";
  },
  ended: (s) => {
    const cut = message("app", "The first lines of an answer that");
    cut.interrupted.value = true;
    s.items.value = [
      message("user", "Tell me a story"),
      cut,
      ended("stopped"),
      message("user", "fail"),
      ended("failed", "HANDLER_ERROR", "ref_made_up_one"),
      message("user", "slow 600"),
      ended("failed", "DEADLINE", "ref_made_up_two"),
      message("user", "???"),
      ended("unhandled"),
    ];
  },
  folded: (s) => {
    s.items.value = [
      message("user", "A pasted line of a log file\n".repeat(60)),
      message("app", SHORT),
    ];
  },
  blocks: (s) => {
    s.items.value = blocks();
    s.ends.value = new Map([
      ["over", "ended"],
      ["stopped", "stopped"],
    ]);
  },
  tasks: (s) => {
    s.items.value = waitingTasks();
  },
  "tasks-ended": (s) => {
    s.items.value = endedTasks();
  },
  files: (s) => {
    s.items.value = withFiles();
  },
  attaching: (s, set) => {
    s.items.value = conversation(2);
    set.draft.value = "Have a look at these, please.";
    set.files.attachments.value = uploads();
  },
  loading: (s) => {
    s.loading.value = true;
  },
  closed: (s) => {
    s.items.value = conversation(2);
    s.entry.value = { ...s.entry.value, state: "closed" };
  },
  offline: (s, set) => {
    s.items.value = conversation(2);
    set.connection.value = "offline";
  },
  reconnecting: (s, set) => {
    s.items.value = conversation(2);
    set.connection.value = "reconnecting";
  },
  "app-offline": (s, set) => {
    s.items.value = [...conversation(2), message("user", "Are you there?")];
    s.busy.value = true;
    set.appOnline.value = false;
  },
  near: (s, set) => {
    s.items.value = conversation(2);
    set.draft.value = "word ".repeat(190);
  },
  over: (s, set) => {
    s.items.value = conversation(2);
    set.draft.value = "word ".repeat(290);
  },
  "prompt-file": (s) => asked(s, ask.file()),
  "prompt-approval": (s) => asked(s, ask.approval()),
  "prompt-choice": (s) => asked(s, ask.choice()),
  "prompt-many": (s) => asked(s, ask.many()),
  "prompt-integration": (s) => asked(s, ask.integration()),
  "prompt-soon": (s) => asked(s, ask.approval(45)),
  "prompt-failed": (s) => {
    const item = asked(s, ask.approval());
    item.problem.value = "The server cannot be reached.";
    item.tried = { reply: { kind: "approval", approved: true }, requestId: "r" };
  },
  "prompt-answering": (s) => {
    asked(s, ask.choice()).answering.value = { kind: "choice", option: 1 };
  },
  "prompt-ended": (s) => {
    s.items.value = [message("user", "Ask me everything"), ...endings()];
  },
  /** It is loaded, and scrolled away. */
  "prompt-above": (s) => {
    s.items.value = [message("user", "Send it"), ask.approval(), ...conversation(30)];
    s.busy.value = true;
  },
  /** It lies before what is loaded. */
  "prompt-before": (s) => {
    s.items.value = conversation(30);
    s.prompts.before.value = [ask.choice(), ask.file()];
    s.hasOlder.value = true;
    s.busy.value = true;
  },
  notices: (s, set) => {
    s.items.value = conversation(2);
    set.notices.value = [
      { id: 1, text: "The chat was deleted on another device.", bad: false },
      { id: 2, text: "The title could not be changed: the storage is not available.", bad: true },
    ];
  },
};

interface Setters {
  readonly files: FakeFiles;
  readonly connection: Signal<Connection>;
  readonly appOnline: Signal<boolean | null>;
  readonly draft: Signal<string>;
  readonly notices: Signal<readonly Notice[]>;
}

export const STATES = [...Object.keys(FILL), "empty", "starting", "signed-out", "gone", "none"];

export function fakeChat(state: string): Chat {
  const uploader = fakeUploader();
  const set: Setters = {
    files: new FakeFiles(uploader),
    connection: signal<Connection>("live"),
    appOnline: signal<boolean | null>(true),
    draft: signal(""),
    notices: signal<readonly Notice[]>([]),
  };
  const small = state === "near" || state === "over";
  const query = signal("");
  const days = [0, 0, 1, 1, 3, 4, 5, 6, 20, 30, 40, 50];
  const all = signal<readonly SessionEntry[]>(
    state === "none" || state === "empty0"
      ? []
      : TITLES.map((title, i) => ({
          id: `ses_${i}`,
          title,
          state: "open" as const,
          createTime: new Date(Date.now() - (days[i] ?? 0) * 86_400_000),
          activity: TITLES.length - i,
        })),
  );
  const current = signal<FakeSession | null>(null);
  const open = (id: string, fill: string) => {
    const entry = all.value.find((one) => one.id === id);
    if (!entry) return;
    const session = new FakeSession(id, signal(entry), uploader);
    FILL[fill]?.(session, set);
    current.value = session;
  };
  if (Object.hasOwn(FILL, state)) open("ses_0", state);
  const access = ["starting", "signed-out", "gone"].includes(state) ? state : "ready";
  return {
    app: "demo",
    ...set,
    access: signal(access as "ready"),
    sessions: computed(() =>
      all.value.filter((one) => one.title.toLowerCase().includes(query.value.toLowerCase())),
    ),
    hasMoreSessions: computed(() => !query.value && all.value.length === TITLES.length),
    query,
    current,
    uploader,
    attachments: set.files.attachments,
    maxAttachments: signal(20),
    waiting: computed(() => new Set(current.value?.prompts.waiting.value.length ? ["ses_0"] : [])),
    maxTextBytes: signal(small ? 1024 : 262_144),
    start: async () => undefined,
    search: (text) => {
      query.value = text;
    },
    moreSessions: () => new Promise((done) => setTimeout(done, 800)),
    open: (id) => open(id, "chat"),
    newChat: () => {
      current.value = null;
    },
    rename: async (id, title) => {
      all.value = all.value.map((one) => (one.id === id ? { ...one, title } : one));
    },
    remove: async (id) => {
      all.value = all.value.filter((one) => one.id !== id);
      if (current.value?.id === id) current.value = null;
    },
    setDraft: (text) => {
      set.draft.value = text;
    },
    attach: (files) => set.files.attach(files),
    detach: (key) => set.files.detach(key),
    fileUrl: async () => "",
    tell: (text) => {
      set.notices.value = [{ id: Date.now(), text, bad: true }];
    },
    send: (text, alone = false) => {
      if (!current.value) open("ses_3", "none");
      const item = message("user", text);
      item.delivery.value = "sending";
      item.attachments.value = alone ? [] : set.files.take();
      current.value?.add(item);
      if (!alone) set.draft.value = "";
      setTimeout(() => {
        item.delivery.value = "sent";
      }, 150);
      current.value?.stream(ANSWER);
    },
    dismiss: (id) => {
      set.notices.value = set.notices.value.filter((one) => one.id !== id);
    },
  };
}

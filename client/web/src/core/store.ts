/** The chat: what the components see. It puts the parts together and holds what is on screen. */

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { SendMessageResponse, Session } from "../wire.ts";
import { Access } from "./access.ts";
import { Api, ApiError } from "./api.ts";
import { Beginning } from "./beginning.ts";
import { DraftFiles } from "./draftfiles.ts";
import { Drafts, NEW } from "./drafts.ts";
import { browserEnv, type Env } from "./env.ts";
import { takeFrames } from "./frames.ts";
import { Link } from "./link.ts";
import type { Chat, Connection, Notice, OpenSession, SessionEntry } from "./model.ts";
import { Notices } from "./notices.ts";
import { type SessionView, sentence } from "./opensession.ts";
import { laneOf, MAX_ENTRIES, Outbox } from "./outbox.ts";
import type { OutboxEntry } from "./outboxstore.ts";
import { Passing } from "./passing.ts";
import { Prompts } from "./prompts.ts";
import { SessionList } from "./sessionlist.ts";
import { Standby } from "./standby.ts";
import { type Upload, Uploader } from "./uploads.ts";
import { Views } from "./views.ts";

/** So long after another person was signed in, what is missing is missing because of that. */
const EXPLAINED_MS = 10_000;

/** The chat of one app. */
export class ChatStore implements Chat {
  readonly access: Access["state"];
  readonly waiting: ReadonlySignal<ReadonlySet<string>>;
  readonly sessions: ReadonlySignal<readonly SessionEntry[]>;
  readonly hasMoreSessions: ReadonlySignal<boolean>;
  readonly query: ReadonlySignal<string>;
  readonly connection: ReadonlySignal<Connection>;
  readonly appOnline: ReadonlySignal<boolean | null>;
  readonly draft = signal("");
  readonly attachments: ReadonlySignal<readonly Upload[]>;
  readonly notices: ReadonlySignal<readonly Notice[]>;
  readonly maxTextBytes: ReadonlySignal<number>;
  readonly maxAttachments: ReadonlySignal<number>;
  readonly uploader: Uploader;
  readonly #env: Env;
  readonly #api: Api;
  readonly #access: Access;
  readonly #link: Link;
  readonly #standby: Standby;
  readonly #list: SessionList;
  readonly #passing: Passing;
  readonly #prompts: Prompts;
  readonly #outbox: Outbox;
  readonly #drafts: Drafts;
  readonly #files: DraftFiles;
  readonly #beginning: Beginning;
  readonly #current: Signal<SessionView | null> = signal(null);
  readonly #views: Views;
  readonly #off: (() => void)[] = [];
  readonly #notices = new Notices();
  /** Chats that this tab deletes: with what is being written there. */
  readonly #removing = new Set<string>();
  #changedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly app: string,
    env: Env = browserEnv(),
  ) {
    this.#env = env;
    this.#api = new Api(env, app);
    this.#access = new Access(env, app, this.#api, () => this.#another());
    this.#passing = new Passing(env);
    this.#prompts = new Prompts(() => this.#api.skew);
    this.#drafts = new Drafts(env, app);
    const failed = (error: unknown) => {
      if (!(error instanceof ApiError && error.status === 401)) {
        this.#notices.tell(`The list of chats could not be loaded. ${sentence(error)}`);
      }
    };
    this.#list = new SessionList(env, this.#api, failed, (id) => this.#views.get(id) !== undefined);
    const told = {
      list: this.#list,
      passing: this.#passing,
      prompts: this.#prompts,
      view: (id: string) => this.#views.get(id),
      deleted: (id: string) => this.#deleted(id),
    };
    this.#link = new Link(env, {
      open: (after, signal) => this.#api.events(after, signal),
      begun: () => this.#passing.begin(),
      frames: (frames) => {
        if (!takeFrames(told, frames)) {
          this.#link.retry(); // Text is missing.
        }
      },
      live: () => this.#wake(),
      lost: () => this.#beginning.anew(),
      signedOut: () => void this.#beginning.signInAndFollow(),
    });
    this.#standby = new Standby(env, this.#link);
    this.#outbox = new Outbox(env, app, this.#api, {
      adopted: (entries) => this.#adopted(entries),
      opened: (openId, session) => this.#opened(openId, session),
      sent: (entry, answer) => this.#sent(entry, answer),
      failed: (entry, error) => this.#failed(entry, error),
      signIn: () => this.#access.renew(),
    });
    this.uploader = new Uploader({
      env,
      api: this.#api,
      maxFileBytes: this.#access.maxFileBytes,
      signIn: () => this.#access.renew(),
    });
    this.#files = new DraftFiles({
      env,
      app,
      uploader: this.uploader,
      maxFileBytes: this.#access.maxFileBytes,
      maxAttachments: this.#access.maxAttachments,
      notice: (text) => this.#notices.tell(text),
    });
    this.attachments = computed(() => this.#files.of(this.#draftKey(this.#current.value)).value);
    this.#views = new Views({
      env,
      api: this.#api,
      passing: this.#passing,
      prompts: this.#prompts,
      uploader: this.uploader,
      list: this.#list,
      outbox: this.#outbox,
      notice: (text) => this.#notices.tell(text),
      returned: (view, entry) => this.#files.put(view.id || view.openId, entry),
      signIn: () => this.#access.renew(),
      gone: (view) => this.#gone(view),
    });
    this.notices = this.#notices.all;
    this.#beginning = new Beginning({
      env,
      api: this.#api,
      access: this.#access,
      list: this.#list,
      link: this.#link,
      loaded: () => this.#loaded(),
      ready: () => this.#outbox.start(),
    });
    this.access = this.#access.state;
    this.maxTextBytes = this.#access.maxTextBytes;
    this.maxAttachments = this.#access.maxAttachments;
    this.waiting = this.#prompts.waiting;
    this.sessions = this.#list.sessions;
    this.hasMoreSessions = this.#list.hasMore;
    this.query = this.#list.query;
    this.connection = this.#link.connection;
    this.appOnline = this.#passing.online;
  }

  get current(): ReadonlySignal<OpenSession | null> {
    return this.#current;
  }

  async start(): Promise<void> {
    const flush = () => this.#drafts.flush();
    this.#off.push(
      this.#env.on("hashchange", () => this.#route()),
      this.#env.on("popstate", () => this.#route()),
      this.#env.on("online", () => this.#wake()),
      this.#env.on("pagehide", flush),
      this.#env.on("visibilitychange", () => this.#env.hidden() && flush()),
    );
    this.draft.value = this.#drafts.get(NEW);
    this.#files.load();
    await this.#outbox.load();
    this.#route();
    await this.#beginning.begin();
  }

  /** Ends everything: for tests, and for a page that shows another app. */
  close(): void {
    this.#beginning.close();
    this.#drafts.flush();
    for (const off of this.#off) {
      off();
    }
    this.#standby.close();
    this.#link.close();
    this.#outbox.close();
    this.uploader.close();
    this.#files.close();
    this.#list.close();
    this.#access.close();
    this.#views.close();
  }

  search(query: string): void {
    this.#list.search(query);
  }

  moreSessions(): Promise<void> {
    return this.#list.more();
  }

  open(sessionId: string): void {
    if (this.#current.peek()?.id !== sessionId) {
      this.#env.setHash(`#/${encodeURIComponent(sessionId)}`, false);
      this.#show(this.#views.show(sessionId));
    }
  }

  newChat(): void {
    if (this.#current.peek() !== null) {
      this.#env.setHash("", false);
      this.#show(null);
    }
  }

  async rename(sessionId: string, title: string): Promise<void> {
    const undo = this.#list.retitle(sessionId, title);
    try {
      this.#list.merge(await this.#api.rename(sessionId, title));
    } catch (error) {
      undo();
      this.#notices.tell(`The chat could not be renamed. ${sentence(error)}`);
    }
  }

  async remove(sessionId: string): Promise<void> {
    this.#removing.add(sessionId);
    try {
      await this.#api.remove(sessionId);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) {
        this.#notices.tell(`The chat could not be deleted. ${sentence(error)}`);
        this.#removing.delete(sessionId);
        return;
      }
    }
    this.#outbox.drop(sessionId);
    this.#drafts.remove(sessionId);
    this.#files.clear(sessionId);
    this.#forget(sessionId);
    this.#removing.delete(sessionId);
  }

  setDraft(text: string): void {
    this.draft.value = text;
    this.#drafts.set(this.#draftKey(), text);
  }

  attach(files: readonly File[]): void {
    this.#files.add(this.#draftKey(), files);
  }

  detach(key: string, used = false): void {
    this.#files.remove(this.#draftKey(), key, used);
  }

  tell(text: string): void {
    this.#notices.tell(text);
  }

  async fileUrl(fileId: string): Promise<string> {
    return (await this.#api.file(fileId)).url ?? "";
  }

  send(text: string, alone = false): void {
    const draftKey = this.#draftKey();
    const attached = alone ? [] : this.#files.attached(draftKey);
    if (attached === null || (text.trim() === "" && attached.length === 0)) {
      return;
    }
    const max = this.maxTextBytes.peek();
    if (new TextEncoder().encode(text).length > max) {
      this.#notices.tell(`The message is too long: ${Math.floor(max / 1024)} KiB are possible.`);
      return;
    }
    batch(() => {
      const here = this.#current.peek();
      const openId = here ? here.openId : this.#env.uuid();
      const chat = here
        ? { sessionId: here.id, openId, after: here.after }
        : { sessionId: "", openId, after: 0 };
      const entry = this.#outbox.add(chat, text.trim() === "" ? "" : text, attached);
      if (entry === null) {
        this.#notices.tell(`${MAX_ENTRIES} messages wait to be sent: please wait for the line.`);
        return;
      }
      if (!alone) {
        this.#drafts.remove(draftKey);
        this.#files.clear(draftKey);
      }
      if (here) {
        here.sending(entry);
      } else {
        this.#show(this.#views.show("", openId));
      }
      this.draft.value = this.#drafts.get(this.#draftKey());
    });
  }

  dismiss(noticeId: number): void {
    this.#notices.dismiss(noticeId);
  }

  // -- what the line brings ----------------------------------------------------------------

  /** The list is there anew: what is on screen is fetched anew, the rest when it is looked at. */
  #loaded(): void {
    const current = this.#current.peek();
    this.#passing.clear();
    this.#prompts.doubt();
    this.#views.dropOthers(current);
    if (current?.id && !current.loading.peek()) {
      void current.load();
    }
  }

  #wake(): void {
    this.#outbox.wake();
    this.uploader.wake();
    this.#api.waiting.wake();
  }

  #deleted(sessionId: string): void {
    const here = sessionId === this.#current.peek()?.id && !this.#removing.has(sessionId);
    const kept = this.#forget(sessionId);
    if (here) {
      this.#notices.tell(`This chat was deleted.${kept}`, false);
    }
  }

  // -- what the outbox tells ---------------------------------------------------------------

  #adopted(entries: readonly OutboxEntry[]): void {
    for (const entry of entries) {
      this.#views.get(laneOf(entry))?.sending(entry);
    }
    // A new chat that was being opened when the page went away is on screen again.
    const [openId] = this.#outbox.opening();
    if (openId && this.#current.peek() === null && this.#env.hash() === "") {
      this.#show(this.#views.show("", openId));
    }
  }

  #opened(openId: string, session: Session): void {
    const id = session.session_id ?? "";
    batch(() => {
      this.#list.merge(session);
      this.#drafts.move(openId, id);
      this.#files.move(openId, id);
      const view = this.#views.opened(openId, id);
      if (view && this.#current.peek() === view) {
        this.#env.setHash(`#/${encodeURIComponent(id)}`, true);
      }
    });
    this.#access.meet(session.user?.user_id ?? "");
  }

  /** Somebody else is signed in than before: a guest whose cookie was lost is a new one. */
  #another(): void {
    this.#changedAt = this.#env.now();
    this.#files.clearAll();
    this.#notices.tell("You were signed out. The chats of before are not yours to see any more.");
    this.#beginning.anew();
  }

  /** Whether what is missing is missing because of that, which was said. */
  get #explained(): boolean {
    return this.#env.now() - this.#changedAt < EXPLAINED_MS;
  }

  #sent(entry: OutboxEntry, answer: SendMessageResponse): void {
    this.#views.get(entry.sessionId)?.sent(entry, answer);
  }

  #failed(entry: OutboxEntry, error: ApiError): void {
    if (error.status === 404 && entry.lost === "") {
      // The chat is gone. Its words go to where they can be sent from again.
      this.#outbox.discard(entry.id);
      this.#drafts.append(NEW, entry.text);
      this.#files.put(NEW, entry);
      this.#drafts.flush();
      if (this.#current.peek() === null) {
        this.draft.value = this.#drafts.get(NEW);
      }
      const why = this.#explained ? "" : "The chat is gone. ";
      this.#notices.tell(`${why}Your message is kept as the draft of a new chat.`);
      this.#forget(laneOf(entry));
      return;
    }
    this.#views.get(laneOf(entry))?.failed(entry);
  }

  // -- what is on screen -------------------------------------------------------------------

  /** Shows what the location says. */
  #route(): void {
    const match = /^#\/([\w%.:-]{1,200})$/.exec(this.#env.hash());
    const id = match?.[1] ?? "";
    const current = this.#current.peek();
    if (id !== "" && id !== current?.id) {
      this.#show(this.#views.show(id));
    } else if (id === "" && current?.id) {
      this.#show(null);
    }
  }

  #show(view: SessionView | null): void {
    batch(() => {
      this.#current.value = view;
      this.draft.value = this.#drafts.get(this.#draftKey());
    });
  }

  /** The session is not there for this person. */
  #gone(view: SessionView): void {
    const here = view === this.#current.peek();
    const kept = this.#forget(view.id);
    if (here && !this.#explained) {
      this.#notices.tell(`This chat does not exist any more.${kept}`);
    }
  }

  /** Takes a chat out; returns what to say of what was being written there, where something was. */
  #forget(sessionId: string): string {
    return batch(() => {
      this.#list.forget(sessionId);
      const view = this.#views.get(sessionId);
      this.#views.drop(sessionId);
      if (!view || view !== this.#current.peek()) {
        return "";
      }
      const kept = !this.#removing.has(sessionId) && this.#keepWriting(sessionId);
      this.#env.setHash("", true);
      this.#show(null);
      return kept ? " What you were writing is kept as the draft of a new chat." : "";
    });
  }

  /** Another tab that has deleted the chat has deleted its draft too: what is on screen counts. */
  #keepWriting(draftKey: string): boolean {
    const text = this.draft.peek().trim() === "" ? "" : this.draft.peek();
    const any = text !== "" || this.#files.of(draftKey).peek().length > 0;
    this.#drafts.remove(draftKey);
    this.#drafts.append(NEW, text);
    this.#drafts.flush();
    this.#files.move(draftKey, NEW);
    return any;
  }

  #draftKey(current = this.#current.peek()): string {
    return current ? current.id || current.openId : NEW;
  }
}

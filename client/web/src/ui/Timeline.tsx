/** The conversation of the session on screen. */
import { useComputed, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { OpenSession, TimelineEntry } from "../core/model.ts";
import { Entry } from "./Entry.tsx";
import { dayName, dayNumber } from "./grouping.ts";
import { DownIcon } from "./icons.tsx";
import { Progress } from "./Progress.tsx";
import { AwayPrompt, PinnedPrompts } from "./prompts/Waiting.tsx";
import { ScrollKeeper } from "./scroll.ts";
import { titleOf, useUi } from "./state.ts";

/** After a page of older items did not come, scrolling asks no sooner than this. */
const PATIENCE_MS = 3000;

export function Timeline({ session }: { readonly session: OpenSession }) {
  const ui = useUi();
  const scroller = useRef<HTMLDivElement>(null);
  const entries = useRef<HTMLDivElement>(null);
  const [keeper, setKeeper] = useState<ScrollKeeper | null>(null);
  const older = useMemo(() => new Older(session), [session]);

  useLayoutEffect(() => {
    if (!scroller.current || !entries.current) return;
    const made = new ScrollKeeper(scroller.current, entries.current, () => older.want());
    setKeeper(made);
    return () => made.dispose();
  }, [older]);

  // What a person sends brings them to the end, wherever they read.
  const newest = useComputed(() => {
    const last = session.items.value.at(-1);
    return last?.kind === "message" && last.sender === "user" ? last.key : "";
  });
  useSignalEffect(() => {
    if (newest.value && keeper) requestAnimationFrame(() => keeper.toBottom());
  });

  // An older page that did not fill the view, or that ended within reach of it, wants another.
  useSignalEffect(() => {
    if (!session.loadingOlder.value && !session.loading.value && keeper) {
      requestAnimationFrame(() => keeper.check());
    }
  });

  const reveal = (card: HTMLElement) => keeper?.reveal(card);
  return (
    <>
      <div class="timeline">
        {/* biome-ignore-start lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
        <div
          ref={scroller}
          class="scroller"
          role="log"
          // The announcer reads whole sentences; the log itself would read every delta.
          aria-live="off"
          aria-label={`Conversation: ${titleOf(session.entry.value)}`}
          aria-busy={session.loading.value}
          tabIndex={0}
        >
          {/* biome-ignore-end lint/a11y/noNoninteractiveTabindex: see above */}
          <div class="column">
            <OlderRow session={session} older={older} />
            <div ref={entries} class="entries">
              {session.loading.value ? <Skeleton /> : <Entries session={session} />}
            </div>
            <Progress session={session} onGrow={() => keeper?.stuck.peek() && keeper.toBottom()} />
          </div>
        </div>
        {keeper && <JumpToLatest keeper={keeper} focus={() => ui.focusComposer()} />}
        {keeper && <AwayPrompt session={session} reveal={reveal} />}
      </div>
      <PinnedPrompts session={session} reveal={reveal} />
    </>
  );
}

/** Each entry is made once: a list that grew does not render what it had. */
function Entries({ session }: { readonly session: OpenSession }) {
  const { made } = useMemo(
    () => ({ of: session, made: new WeakMap<TimelineEntry, VNode>() }),
    [session],
  );
  const now = new Date();
  const out: VNode[] = [];
  let day: number | null = null;
  for (const item of session.items.value) {
    const time = item.kind === "message" ? item.createTime : null;
    if (time) {
      const its = dayNumber(time);
      // The first day goes without saying where it is today.
      if (its !== day && (day !== null || its !== dayNumber(now))) {
        out.push(<Day key={`day ${its}`} name={dayName(time, now)} />);
      }
      day = its;
    }
    let vnode = made.get(item);
    if (!vnode) {
      vnode = <Entry key={item.key} item={item} session={session} />;
      made.set(item, vnode);
    }
    out.push(vnode);
  }
  return <>{out}</>;
}

function Day({ name }: { readonly name: string }) {
  return (
    <p class="day">
      <span>{name}</span>
    </p>
  );
}

/** Asks for older items once at a time, and not at every pixel where they do not come. */
class Older {
  private notBefore = 0;

  constructor(private readonly session: OpenSession) {}

  want(patient = true): void {
    const { hasOlder, loading, loadingOlder, items } = this.session;
    if (!hasOlder.peek() || loading.peek() || loadingOlder.peek()) return;
    if (patient && performance.now() < this.notBefore) return;
    const first = items.peek()[0]?.key;
    const failed = () => {
      if (items.peek()[0]?.key === first) this.notBefore = performance.now() + PATIENCE_MS;
    };
    this.session.loadOlder().then(failed, failed);
  }
}

function OlderRow({ session, older }: { readonly session: OpenSession; readonly older: Older }) {
  if (!session.hasOlder.value || session.loading.value) return null;
  const loading = session.loadingOlder.value;
  return (
    <div class="older">
      <button
        type="button"
        class="button quiet"
        aria-disabled={loading}
        onClick={() => older.want(false)}
      >
        {loading && <span class="spinner" />}
        {loading ? "Loading…" : "Load older messages"}
      </button>
    </div>
  );
}

function JumpToLatest({
  keeper,
  focus,
}: {
  readonly keeper: ScrollKeeper;
  readonly focus: () => void;
}) {
  if (keeper.stuck.value) return null;
  return (
    <button
      type="button"
      class="jump"
      onClick={() => {
        keeper.toBottom();
        focus();
      }}
    >
      <DownIcon size={18} />
      Jump to latest
    </button>
  );
}

function Skeleton() {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    ref.current?.setAttribute("data-late", "");
  }, []);
  return (
    <div ref={ref} class="skeleton" role="status">
      <span class="sr-only">Loading the conversation</span>
      <i class="mine" />
      <i />
      <i />
      <i class="short" />
    </div>
  );
}

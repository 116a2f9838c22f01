import { useEffect, useRef, useState } from "preact/hooks";
import type { Notice } from "../core/model.ts";
import { useFocusKept } from "./focus.ts";
import { AlertIcon, CheckIcon, CloseIcon } from "./icons.tsx";
import { touchOnly, useUi } from "./state.ts";

const SHOWN_MS = 6000;

export function Toasts() {
  const { chat, focusComposer } = useUi();
  const ref = useRef<HTMLElement>(null);
  const notices = chat.notices.value;
  useFocusKept(ref, () => !touchOnly() && focusComposer());
  return (
    <section ref={ref} class="toasts" aria-label="Notices">
      {notices.map((notice) => (
        <Toast key={notice.id} notice={notice} />
      ))}
    </section>
  );
}

/** Bad news stay until they are dismissed; others leave, but not while they are being read. */
function Toast({ notice }: { readonly notice: Notice }) {
  const { chat } = useUi();
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (notice.bad || held) return;
    const timer = setTimeout(() => chat.dismiss(notice.id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [chat, notice, held]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: only to know that it is being read
    // biome-ignore lint/a11y/noNoninteractiveElementInteractions: likewise
    <div
      class="toast"
      data-bad={notice.bad || undefined}
      onMouseEnter={() => setHeld(true)}
      onMouseLeave={() => setHeld(false)}
      onFocusIn={() => setHeld(true)}
      onFocusOut={() => setHeld(false)}
    >
      {notice.bad ? <AlertIcon size={18} /> : <CheckIcon size={18} />}
      <p role={notice.bad ? "alert" : "status"}>{notice.text}</p>
      <button
        type="button"
        class="icon-button small"
        aria-label="Dismiss"
        onClick={() => chat.dismiss(notice.id)}
      >
        <CloseIcon size={16} />
      </button>
    </div>
  );
}

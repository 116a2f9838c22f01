/** The menu of an entry of the session list. */
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { RenameIcon, TrashIcon } from "./icons.tsx";
import { type OpenMenu, titleOf, useUi } from "./state.ts";

const GAP = 4;

export function Menu() {
  const ui = useUi();
  const open = ui.menu.value;
  return open && <MenuOf key={open.session.id} open={open} />;
}

function MenuOf({ open }: { readonly open: OpenMenu }) {
  const ui = useUi();
  const ref = useRef<HTMLDivElement>(null);
  const { anchor, session } = open;

  const close = (giveBack: boolean) => {
    ui.menu.value = null;
    if (giveBack) anchor.focus();
  };

  useLayoutEffect(() => {
    const menu = ref.current;
    if (!menu) return;
    place(menu, anchor.getBoundingClientRect());
    menu.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  }, [anchor]);

  useEffect(() => {
    const leave = (event: Event) => {
      const target = event.target;
      if (target instanceof Node && (ref.current?.contains(target) || anchor.contains(target)))
        return;
      ui.menu.value = null;
    };
    // Whatever moves the button away from the menu closes it.
    document.addEventListener("pointerdown", leave, true);
    document.addEventListener("scroll", leave, true);
    addEventListener("resize", leave);
    return () => {
      document.removeEventListener("pointerdown", leave, true);
      document.removeEventListener("scroll", leave, true);
      removeEventListener("resize", leave);
    };
  }, [anchor, ui]);

  const onKeyDown = (event: KeyboardEvent) => {
    const items = [...(ref.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const target = next(event.key, at, items.length);
    if (target !== null) {
      event.preventDefault();
      items[target]?.focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      event.stopPropagation();
      close(true);
    }
  };

  const rename = () => {
    close(false);
    ui.renaming.value = session.id;
  };
  const remove = () => {
    close(true);
    ui.dialog.value = { kind: "delete", session };
  };

  return (
    <div
      ref={ref}
      class="menu"
      role="menu"
      tabIndex={-1}
      aria-label={`Chat “${titleOf(session)}”`}
      onKeyDown={onKeyDown}
    >
      <button type="button" role="menuitem" tabIndex={-1} onClick={rename}>
        <RenameIcon size={18} />
        Rename
      </button>
      <button type="button" role="menuitem" tabIndex={-1} class="bad" onClick={remove}>
        <TrashIcon size={18} />
        Delete
      </button>
    </div>
  );
}

/** Returns the item that a key leads to; null: the key leads nowhere. */
function next(key: string, at: number, count: number): number | null {
  switch (key) {
    case "ArrowDown":
      return (at + 1) % count;
    case "ArrowUp":
      return (at - 1 + count) % count;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

/** Below the button, or above it where there is no room; never out of the window. */
function place(menu: HTMLElement, button: DOMRect): void {
  const { width, height } = menu.getBoundingClientRect();
  const below = button.bottom + GAP;
  const top = below + height > innerHeight - GAP ? button.top - GAP - height : below;
  const left = Math.min(button.left, innerWidth - width - 2 * GAP);
  // By the object model, which the content security policy lets pass, unlike a style attribute.
  menu.style.top = `${Math.max(GAP, top)}px`;
  menu.style.left = `${Math.max(GAP, left)}px`;
}

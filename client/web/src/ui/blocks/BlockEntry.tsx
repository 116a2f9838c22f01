import { useComputed, useSignal } from "@preact/signals";
import { Component, type ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import type { BlockItem, OpenSession } from "../../core/model.ts";
import { useFocusKept } from "../focus.ts";
import { useUi } from "../state.ts";
import { GenericBlock } from "./GenericBlock.tsx";
import { type Button, buttonsOf, type Payload } from "./payload.ts";
import { RENDERERS } from "./registry.tsx";
import { isUsed } from "./used.ts";

interface Props {
  readonly item: BlockItem;
  readonly session: OpenSession;
}

export function BlockEntry({ item, session }: Props) {
  const payload = item.payload.value;
  const over = useComputed(() => item.type === "suggestions" && isUsed(item, session)).value;
  const ref = useRef<HTMLDivElement>(null);
  const { focusComposer } = useUi();
  useFocusKept(ref, () => {
    // Whoever was about to choose one of the suggestions goes on with words of their own.
    if (item.type === "suggestions") focusComposer();
    else cardOf(ref.current)?.focus({ preventScroll: true });
  });
  if (over) return null;
  const known = RENDERERS.get(item.type)?.(payload, session, item) ?? null;
  const buttons = buttonsOf(payload);
  const row = buttons.length > 0 && (
    <ButtonRow key="buttons" buttons={buttons} item={item} session={session} />
  );
  const name = known ? item.type : "generic";
  return (
    <div ref={ref} class="entry block" tabIndex={-1} data-block={name}>
      <Guard key={name} payload={payload}>
        {known ?? (
          <GenericBlock type={item.type} payload={payload}>
            {row}
          </GenericBlock>
        )}
      </Guard>
      {known && row}
    </div>
  );
}

/** What says the name of a block, where it has one. */
function cardOf(entry: HTMLElement | null): HTMLElement | null {
  return entry?.querySelector<HTMLElement>("article.card") ?? entry;
}

interface GuardProps {
  readonly payload: Payload;
  readonly children: ComponentChildren;
}

/** One block that cannot be shown must not take the conversation with it. */
class Guard extends Component<GuardProps, { readonly broken: Payload | null }> {
  override state = { broken: null as Payload | null };

  override componentDidCatch(): void {
    this.setState({ broken: this.props.payload });
  }

  override render() {
    if (this.state.broken === this.props.payload) {
      return <p class="card quiet">This part cannot be shown.</p>;
    }
    return this.props.children;
  }
}

interface RowProps extends Props {
  readonly buttons: readonly Button[];
}

function ButtonRow({ buttons, item, session }: RowProps) {
  const pending = useSignal(-1);
  const closed = session.entry.value.state !== "open";
  const click = async (button: Button, index: number) => {
    if (pending.value >= 0 || closed) return;
    pending.value = index;
    try {
      await session.act(button.action, item.blockId, button.payload);
    } finally {
      pending.value = -1;
    }
  };
  return (
    <div class="button-row">
      {buttons.map((button, index) => (
        <button
          // By place: an app's buttons have no name of their own.
          key={index}
          type="button"
          dir="auto"
          class={button.style === "plain" ? "button" : `button ${button.style}`}
          disabled={closed}
          aria-disabled={pending.value >= 0 || undefined}
          onClick={() => click(button, index)}
        >
          {pending.value === index && <span class="spinner" />}
          {button.label}
        </button>
      ))}
    </div>
  );
}

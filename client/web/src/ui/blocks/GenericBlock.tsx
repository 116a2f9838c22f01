/** A block of a type that this page does not know, or whose payload is not what its type promises. */
import type { ComponentChildren } from "preact";
import { field, humanised, isRecord, line, type Payload } from "./payload.ts";

const MOST_ROWS = 40;
const DEEPEST = 4;
const LONG = 600;
/** Fields that are shown elsewhere in the card. */
const TAKEN = new Set(["buttons", "title", "text"]);

interface Props {
  readonly type: string;
  readonly payload: Payload;
  readonly children: ComponentChildren;
}

export function GenericBlock({ type, payload, children }: Props) {
  const title = line(field(payload, "title"));
  const text = field(payload, "text");
  const rows = Object.entries(payload).filter(
    ([name, value]) =>
      name !== "buttons" && !(TAKEN.has(name) && typeof value === "string") && value !== undefined,
  );
  return (
    <article class="card generic" tabIndex={-1} aria-label={title || humanised(type)}>
      <p class={title ? "card-type" : "card-title"} dir="auto">
        {humanised(type)}
      </p>
      {title && (
        <p class="card-title" dir="auto">
          {title}
        </p>
      )}
      {typeof text === "string" && text && (
        <p class="card-text" dir="auto">
          {text}
        </p>
      )}
      {rows.length > 0 && <Rows rows={rows} depth={0} />}
      {children}
    </article>
  );
}

function Rows({
  rows,
  depth,
}: {
  readonly rows: readonly (readonly [string, unknown])[];
  readonly depth: number;
}) {
  const shown = rows.slice(0, MOST_ROWS);
  return (
    <>
      <dl class="rows">
        {shown.map(([name, value]) => (
          <div key={name}>
            <dt dir="auto">{humanised(name)}</dt>
            <dd dir="auto">
              <Value value={value} depth={depth} />
            </dd>
          </div>
        ))}
      </dl>
      {rows.length > shown.length && <p class="more">and {rows.length - shown.length} more</p>}
    </>
  );
}

function Value({ value, depth }: { readonly value: unknown; readonly depth: number }) {
  if (value === null || value === "") return <span class="nothing">–</span>;
  if (typeof value === "boolean") return <>{value ? "Yes" : "No"}</>;
  if (typeof value === "number" || typeof value === "bigint") return <>{String(value)}</>;
  if (typeof value === "string") return <Text text={value} />;
  if (Array.isArray(value)) return <List items={value} depth={depth} />;
  if (!isRecord(value)) return <span class="nothing">–</span>;
  const rows = Object.entries(value);
  if (rows.length === 0) return <span class="nothing">–</span>;
  if (depth >= DEEPEST) return <pre>{JSON.stringify(value, null, 2).slice(0, LONG * 4)}</pre>;
  return (
    <details>
      <summary>
        {rows.length} {rows.length === 1 ? "field" : "fields"}
      </summary>
      <Rows rows={rows} depth={depth + 1} />
    </details>
  );
}

function Text({ text }: { readonly text: string }) {
  const whole = (
    <span class="text" dir="auto">
      {text}
    </span>
  );
  if (text.length <= LONG) return whole;
  return (
    <details>
      <summary dir="auto">{line(text, 80)}</summary>
      {whole}
    </details>
  );
}

function List({ items, depth }: { readonly items: readonly unknown[]; readonly depth: number }) {
  if (items.length === 0) return <span class="nothing">–</span>;
  const flat = items.every((item) => typeof item !== "object" && String(item).length <= 80);
  if (flat && items.length <= MOST_ROWS) return <>{items.map(String).join(", ")}</>;
  if (depth >= DEEPEST) return <pre>{JSON.stringify(items, null, 2).slice(0, LONG * 4)}</pre>;
  return (
    <details>
      <summary>
        {items.length} {items.length === 1 ? "entry" : "entries"}
      </summary>
      <Rows rows={items.map((item, index) => [String(index + 1), item])} depth={depth + 1} />
    </details>
  );
}

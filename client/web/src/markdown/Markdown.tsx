/** Shows Markdown, also while it is being written. */
import type { Token, Tokens } from "marked";
import { Component, type ComponentChildren, type JSX } from "preact";
import { useRef } from "preact/hooks";
import { type Block, BlockStream } from "./blocks.ts";
import { CodeBlock } from "./CodeBlock.tsx";
import { inlines, inlineText } from "./Inline.tsx";

/** The page has its own `h1`. */
const HEADINGS = ["h2", "h3", "h4", "h5", "h6", "h6"] as const;

/**
 * The direction of a text. What begins a list item or a quotation has none of its own: the item is on
 * the side of its first text, and `dir="auto"` does not look into what has a `dir`.
 */
type Direction = "auto" | undefined;

function heading(token: Tokens.Heading, dir: Direction): JSX.Element {
  const Name = HEADINGS[token.depth - 1] ?? "h6";
  return <Name dir={dir}>{inlines(token.tokens)}</Name>;
}

function aligned(align: string | null): string | undefined {
  return align === "right" || align === "center" ? `md-${align}` : undefined;
}

function table(token: Tokens.Table): JSX.Element {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reached by keyboard
    <section class="md-table" tabIndex={0} aria-label="Table">
      <table>
        <thead>
          <tr>
            {token.header.map((cell) => (
              <th scope="col" dir="auto" class={aligned(cell.align)}>
                {inlines(cell.tokens)}
              </th>
            ))}
          </tr>
        </thead>
        {token.rows.length > 0 && (
          <tbody>
            {token.rows.map((row) => (
              <tr>
                {row.map((cell) => (
                  <td dir="auto" class={aligned(cell.align)}>
                    {inlines(cell.tokens)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        )}
      </table>
    </section>
  );
}

function box(item: Tokens.ListItem): JSX.Element {
  const own = item.tokens.find((token) => token.type === "text" || token.type === "paragraph");
  const text = own && "tokens" in own && own.tokens ? inlineText(own.tokens).trim() : "";
  return (
    <input type="checkbox" disabled checked={item.checked === true} aria-label={text || "Task"} />
  );
}

function within(tokens: readonly Token[], done: boolean): ComponentChildren[] {
  const last = tokens.length - 1;
  // What a box or an empty line stands for says nothing of a direction.
  const first = tokens.findIndex((token) => token.type !== "checkbox" && token.type !== "space");
  return tokens.map((token, index) =>
    block(token, done || index < last, index === first ? undefined : "auto"),
  );
}

function listItem(item: Tokens.ListItem, done: boolean, dir: Direction): JSX.Element {
  const content = within(item.tokens, done);
  if (!item.task) return <li dir={dir}>{content}</li>;
  return (
    <li dir={dir} class="md-task">
      {box(item)}
      <div>{content}</div>
    </li>
  );
}

function list(token: Tokens.List, done: boolean, dir: Direction): JSX.Element {
  const last = token.items.length - 1;
  const items = token.items.map((item, index) =>
    listItem(item, done || index < last, index === 0 ? dir : "auto"),
  );
  const name = token.loose ? "md-loose" : undefined;
  if (!token.ordered) return <ul class={name}>{items}</ul>;
  return (
    <ol class={name} start={token.start === "" ? 1 : token.start}>
      {items}
    </ol>
  );
}

/** Running text of a list item: its boxes are shown by the item. */
function running(tokens: readonly Token[]): ComponentChildren {
  return inlines(tokens.filter((token) => token.type !== "checkbox"));
}

function code(token: Tokens.Code, done: boolean): JSX.Element {
  const lang = (token.lang ?? "").split(/\s/, 1)[0] ?? "";
  return <CodeBlock lang={lang} parts={[token.text]} done={done} />;
}

function quote(token: Tokens.Blockquote, done: boolean, dir: Direction): JSX.Element {
  return <blockquote dir={dir}>{within(token.tokens, done)}</blockquote>;
}

function block(token: Token, done: boolean, dir: Direction): ComponentChildren {
  switch (token.type) {
    case "paragraph":
      return <p dir={dir}>{running((token as Tokens.Paragraph).tokens)}</p>;
    case "heading":
      return heading(token as Tokens.Heading, dir);
    case "code":
      return code(token as Tokens.Code, done);
    case "list":
      return list(token as Tokens.List, done, dir);
    case "blockquote":
      return quote(token as Tokens.Blockquote, done, dir);
    case "table":
      return table(token as Tokens.Table);
    case "hr":
      return <hr />;
    case "text":
      // Also a paragraph: a list that turns out to be loose keeps its elements.
      return <p dir={dir}>{running((token as Tokens.Text).tokens ?? [token])}</p>;
    case "html":
      // Shown as it was written.
      return (
        <p dir={dir} class="md-html">
          {token.raw.trimEnd()}
        </p>
      );
    default:
      return null;
  }
}

/** One block: rendered again only when it is another. */
class BlockView extends Component<{ block: Block }> {
  override shouldComponentUpdate(next: { block: Block }): boolean {
    return next.block !== this.props.block;
  }

  override render({ block: { token, done } }: { block: Block }): ComponentChildren {
    if (token.type !== "fenced") return block(token as Token, done, "auto");
    const { lang, parts } = token as { lang: string; parts: readonly string[] };
    return <CodeBlock lang={lang} parts={parts} done={done} />;
  }
}

/** Blocks that the browser lays out, and that are compared, together. */
const GROUP = 32;

/** Some blocks in a row: a long text is not compared or laid out block by block for each delta. */
class Group extends Component<{ blocks: readonly Block[] }> {
  override shouldComponentUpdate({ blocks }: { blocks: readonly Block[] }): boolean {
    const old = this.props.blocks;
    return blocks.length !== old.length || blocks.some((one, index) => one !== old[index]);
  }

  override render({ blocks }: { blocks: readonly Block[] }): JSX.Element {
    return (
      <div class="md-group">
        {blocks.map((one) => (
          <BlockView key={one.key} block={one} />
        ))}
      </div>
    );
  }
}

export interface MarkdownProps {
  readonly text: string;
  /** More of the text is to come. */
  readonly streaming: boolean;
}

/** Renders Markdown; text that grows costs what its last block costs. */
export function Markdown({ text, streaming }: MarkdownProps): JSX.Element {
  const stream = useRef<BlockStream | null>(null);
  stream.current ??= new BlockStream();
  const blocks = stream.current.update(text, streaming);
  const groups: JSX.Element[] = [];
  for (let from = 0; from < blocks.length; from += GROUP) {
    groups.push(<Group key={from} blocks={blocks.slice(from, from + GROUP)} />);
  }
  return <div class="md">{groups}</div>;
}

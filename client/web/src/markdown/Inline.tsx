/** Running text as vnodes. Nothing is ever parsed as HTML. */
import type { Token, Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { PENDING_LINK } from "./pending.ts";
import { codeText, decode } from "./text.ts";
import { imageSource, linkTarget } from "./urls.ts";

const FOLLOW = "noopener noreferrer nofollow";

function Anchor(props: { href: string; title: string | undefined; children: ComponentChildren }) {
  return (
    <a href={props.href} title={props.title} target="_blank" rel={FOLLOW}>
      {props.children}
    </a>
  );
}

function titleOf(title: string | null | undefined): string | undefined {
  return title ? decode(title) : undefined;
}

function link(token: Tokens.Link): ComponentChildren {
  const children = inlines(token.tokens);
  if (token.href === PENDING_LINK) return <span class="md-pending">{children}</span>;
  const href = linkTarget(token.href);
  if (href === null) return children;
  return (
    <Anchor href={href} title={titleOf(token.title)}>
      {children}
    </Anchor>
  );
}

function image(token: Tokens.Image): ComponentChildren {
  const alt = decode(token.text);
  const source = imageSource(token.href);
  const title = titleOf(token.title);
  if (source !== null)
    return <img class="md-image" loading="lazy" src={source} alt={alt} title={title} />;
  const href = linkTarget(token.href);
  if (href === null) return alt;
  return (
    <Anchor href={href} title={title}>
      {alt.trim() === "" ? href : alt}
    </Anchor>
  );
}

function nested(token: Token): ComponentChildren {
  return "tokens" in token && token.tokens ? inlines(token.tokens) : token.raw;
}

function inline(token: Token): ComponentChildren {
  switch (token.type) {
    case "strong":
      return <strong>{nested(token)}</strong>;
    case "em":
      return <em>{nested(token)}</em>;
    case "del":
      return <del>{nested(token)}</del>;
    case "codespan":
      return <code dir="ltr">{codeText((token as Tokens.Codespan).text)}</code>;
    case "br":
      return <br />;
    case "link":
      return link(token as Tokens.Link);
    case "image":
      return image(token as Tokens.Image);
    case "escape":
      return (token as Tokens.Escape).text;
    case "text":
      return "tokens" in token && token.tokens ? inlines(token.tokens) : decode(token.raw);
    default:
      // Raw HTML among it.
      return token.raw;
  }
}

export function inlines(tokens: readonly Token[]): ComponentChildren {
  return tokens.map(inline);
}

/** The text alone, for labels. */
export function inlineText(tokens: readonly Token[]): string {
  let text = "";
  for (const token of tokens) {
    if (token.type === "br") text += " ";
    else if (token.type === "checkbox") continue;
    else if (token.type === "codespan" || token.type === "escape") {
      text += (token as Tokens.Codespan).text;
    } else if (token.type === "image") text += decode((token as Tokens.Image).text);
    else if ("tokens" in token && token.tokens) text += inlineText(token.tokens);
    else text += decode(token.raw);
  }
  return text;
}

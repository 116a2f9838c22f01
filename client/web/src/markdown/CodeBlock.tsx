/** A block of code: its language, a button that copies it, colours once it is whole. */
import { Component, type JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { copyText } from "../copy.ts";
import { highlight, LONGEST_HIGHLIGHTED, type Stretch } from "./highlight.ts";
import { codeText } from "./text.ts";

/** How long the button says "Copied", in milliseconds. */
const SAID_FOR = 2000;

const NAMES: Readonly<Record<string, string>> = {
  js: "JavaScript",
  javascript: "JavaScript",
  jsx: "JSX",
  ts: "TypeScript",
  typescript: "TypeScript",
  tsx: "TSX",
  py: "Python",
  python: "Python",
  sh: "Shell",
  bash: "Bash",
  shell: "Shell",
  zsh: "Shell",
  console: "Console",
  c: "C",
  cpp: "C++",
  "c++": "C++",
  cs: "C#",
  csharp: "C#",
  css: "CSS",
  html: "HTML",
  xml: "XML",
  svg: "SVG",
  json: "JSON",
  yaml: "YAML",
  yml: "YAML",
  toml: "TOML",
  ini: "INI",
  sql: "SQL",
  go: "Go",
  java: "Java",
  kotlin: "Kotlin",
  swift: "Swift",
  php: "PHP",
  ruby: "Ruby",
  rb: "Ruby",
  rust: "Rust",
  rs: "Rust",
  diff: "Diff",
  dockerfile: "Dockerfile",
  md: "Markdown",
  markdown: "Markdown",
  text: "Text",
  txt: "Text",
  plaintext: "Text",
};
const LONGEST_NAME = 40;

function nameOf(lang: string): string {
  const known = lang.toLowerCase();
  return Object.hasOwn(NAMES, known) ? (NAMES[known] ?? lang) : lang.slice(0, LONGEST_NAME);
}

/** Some lines of plain code; a block of its own, so that the browser lays out only the last again. */
class Part extends Component<{ text: string }> {
  override shouldComponentUpdate(next: { text: string }): boolean {
    return next.text !== this.props.text;
  }

  override render({ text }: { text: string }): JSX.Element {
    return <span class="md-part">{codeText(text)}</span>;
  }
}

class Coloured extends Component<{ stretches: readonly Stretch[] }> {
  override shouldComponentUpdate(next: { stretches: readonly Stretch[] }): boolean {
    return next.stretches !== this.props.stretches;
  }

  override render({ stretches }: { stretches: readonly Stretch[] }): JSX.Element {
    return (
      <>
        {stretches.map(({ name, text }) =>
          name === "" ? codeText(text) : <span class={name}>{codeText(text)}</span>,
        )}
      </>
    );
  }
}

interface Colours {
  readonly of: string;
  readonly pieces: readonly (readonly Stretch[])[];
  /** Characters of the code in the pieces. */
  readonly length: number;
}

function useColours(lang: string, parts: readonly string[], done: boolean): Colours | null {
  const [colours, setColours] = useState<Colours | null>(null);
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const wanted = done && lang !== "" && length > 0 && length <= LONGEST_HIGHLIGHTED;
  const code = wanted ? parts.join("") : "";
  useEffect(() => {
    if (code === "") return undefined;
    return highlight(lang.toLowerCase(), code, (piece) => {
      const more = piece.reduce((sum, { text }) => sum + text.length, 0);
      setColours((old) => {
        const sofar = old?.of === code ? old : { of: code, pieces: [], length: 0 };
        return { of: code, pieces: [...sofar.pieces, piece], length: sofar.length + more };
      });
    });
  }, [lang, code]);
  return wanted && colours?.of === code ? colours : null;
}

function Copy({ parts }: { parts: readonly string[] }): JSX.Element {
  const [said, setSaid] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const onClick = async () => {
    const copied = await copyText(parts.join("").replace(/\n$/, ""));
    setSaid(copied ? "Copied" : "Not copied");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(""), SAID_FOR);
  };
  return (
    <>
      <button type="button" class="md-copy" aria-label="Copy code" onClick={onClick}>
        {said || "Copy"}
      </button>
      <span class="md-hidden" role="status">
        {said}
      </span>
    </>
  );
}

export interface CodeBlockProps {
  readonly lang: string;
  /** The code; only its last part grows. */
  readonly parts: readonly string[];
  /** The code is whole: it may be coloured. */
  readonly done: boolean;
}

export function CodeBlock({ lang, parts, done }: CodeBlockProps): JSX.Element {
  const colours = useColours(lang, parts, done);
  const name = nameOf(lang);
  return (
    <figure class="md-code">
      <figcaption>
        <span class="md-lang">
          {name || (done || parts.some((part) => part !== "") ? "Code" : "")}
        </span>
        <Copy parts={parts} />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
      <section class="md-scroll" tabIndex={0} aria-label={name ? `Code, ${name}` : "Code"}>
        <pre dir="ltr">
          <code>
            {colours
              ? [
                  ...colours.pieces.map((stretches) => <Coloured stretches={stretches} />),
                  codeText(colours.of.slice(colours.length)),
                ]
              : parts.map((part) => <Part text={part} />)}
          </code>
        </pre>
      </section>
    </figure>
  );
}

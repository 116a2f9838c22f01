/** A text of the app. */
import { Markdown } from "../markdown/Markdown.tsx";

interface Props {
  readonly text: string;
  readonly streaming: boolean;
}

export function Prose({ text, streaming }: Props) {
  return (
    <div class="prose" data-streaming={streaming || undefined}>
      <Markdown text={text} streaming={streaming} />
    </div>
  );
}

/** The file that answered a prompt. */
import type { Attachment } from "../../wire.ts";
import { readable } from "../bytes.ts";

export function AnswerFile({ file }: { readonly file: Attachment }) {
  return (
    <p class="outcome" data-answered>
      <span>
        {file.name} <small>{readable(Number(file.size ?? 0))}</small>
      </span>
    </p>
  );
}

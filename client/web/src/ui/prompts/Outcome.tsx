/** What came of a question; stays in the conversation. */
import type { PromptItem } from "../../core/model.ts";
import { FileList } from "../attachments/Attachments.tsx";
import { CheckIcon, CloseIcon } from "../icons.tsx";
import { answerWords, endWords, lateWords } from "./words.ts";

export function Outcome({ item }: { readonly item: PromptItem }) {
  const answer = item.answer.value;
  const refused = answer?.kind === "approval" && !answer.approved;
  return (
    <>
      {answer?.kind === "file" ? (
        <div class="outcome-file">
          <span class="sr-only">Answered: </span>
          <FileList all={[answer.file]} />
        </div>
      ) : (
        <p class="outcome" data-answered={answer !== null || undefined}>
          {answer && <Mark refused={refused} />}
          <span>
            {answer && <span class="sr-only">Answered: </span>}
            <bdi>{answer ? answerWords(item) : endWords(item)}</bdi>
          </span>
        </p>
      )}
      {item.late.value && <p class="outcome-late">{lateWords(item)}</p>}
    </>
  );
}

function Mark({ refused }: { readonly refused: boolean }) {
  return (
    <span class="outcome-mark" data-refused={refused || undefined} aria-hidden="true">
      {refused ? <CloseIcon size={14} /> : <CheckIcon size={14} />}
    </span>
  );
}

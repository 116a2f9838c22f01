/** Asks for a file: to be chosen or dropped, with how far it is on its way. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import type { Upload } from "../../core/uploads.ts";
import { readable } from "../bytes.ts";
import { useUi } from "../state.ts";
import { accepts, acceptWords } from "./accept.ts";
import type { PromptProps } from "./PromptCard.tsx";

interface Props extends PromptProps {
  readonly accept: string;
}

export function FileAsk({ item, session, accept }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const over = useSignal(false);
  const refusal = useSignal<ComponentChildren>(null);
  const upload = item.upload.value;
  const busy = item.answering.value !== null;
  const words = acceptWords(accept);

  const take = (files: FileList | null | undefined) => {
    const [file] = files ?? [];
    if (!file || busy) return;
    if (files && files.length > 1) {
      refusal.value = "One file is wanted: please choose one of them.";
    } else if (!accepts(accept, file)) {
      refusal.value = (
        <>
          “<bdi>{file.name}</bdi>” does not fit: {words} {plural(words)} wanted.
        </>
      );
    } else {
      refusal.value = null;
      session.prompts.answerWithFile(item, file);
    }
  };
  const drag = (event: DragEvent, inside: boolean) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // Else the file is one of the message that is being written.
    over.value = inside;
  };

  return (
    <div class="prompt-file">
      {upload ? (
        <Sending upload={upload} {...{ item, session }} />
      ) : (
        <Attached accept={accept} {...{ item, session }} />
      )}
      {!upload && (
        // biome-ignore lint/a11y/noNoninteractiveElementInteractions: dropping is a convenience, there is the button
        // biome-ignore lint/a11y/noStaticElementInteractions: see above
        <div
          class="drop"
          data-over={over.value || undefined}
          onDragEnter={(event) => drag(event, true)}
          onDragOver={(event) => drag(event, true)}
          onDragLeave={(event) => drag(event, false)}
          onDrop={(event) => {
            drag(event, false);
            take(event.dataTransfer?.files);
          }}
        >
          <button
            type="button"
            class="button"
            aria-disabled={busy || undefined}
            onClick={() => !busy && input.current?.click()}
          >
            Choose a file
          </button>
          <span class="drop-or">or drop it here</span>
          {words && <span class="drop-wanted">{words}</span>}
        </div>
      )}
      <input
        ref={input}
        type="file"
        hidden
        accept={accept || undefined}
        aria-label="The file"
        tabIndex={-1}
        onChange={(event) => {
          take(event.currentTarget.files);
          event.currentTarget.value = ""; // The same one may be chosen again.
        }}
      />
      <div role="alert">{refusal.value && <p class="prompt-problem">{refusal.value}</p>}</div>
    </div>
  );
}

/** The file that is attached to the message, where it is one that would do for an answer. */
function Attached({ item, session, accept }: Props) {
  const { chat } = useUi();
  const busy = item.answering.value !== null;
  const [upload, ...others] = chat.attachments.value;
  const state = upload?.state.value;
  if (!upload || others.length > 0 || state?.kind !== "done") return null;
  const { name, contentType, key } = upload;
  const type = contentType || (state.file.content_type ?? "");
  if (!accepts(accept, { name, type })) return null;
  const answer = async () => {
    if (busy) return;
    await session.prompts.answer(item, { kind: "file", file: state.file });
    const given = item.answer.peek();
    // It is the answer now, and none of the message's.
    if (given?.kind === "file" && given.file.file_id === state.file.file_id) chat.detach(key, true);
  };
  return (
    <div class="attached">
      <button
        type="button"
        class="button primary"
        aria-disabled={busy || undefined}
        aria-describedby={`attached-${item.promptId}`}
        onClick={() => void answer()}
      >
        Answer with this file
      </button>
      <bdi id={`attached-${item.promptId}`}>{name}</bdi>
    </div>
  );
}

function plural(words: string): string {
  return words.endsWith("s") || words.includes(" or ") ? "are" : "is";
}

interface SendingProps extends PromptProps {
  readonly upload: Upload;
}

function Sending({ upload, item, session }: SendingProps) {
  const { chat } = useUi();
  const state = upload.state.value;
  const answering = item.answering.value !== null;
  return (
    <div class="sending" data-state={state.kind}>
      <p class="sending-name">
        <span dir="auto">{upload.name}</span> <small>{readable(upload.size)}</small>
      </p>
      {state.kind === "failed" ? (
        <p class="sending-problem" role="alert">
          {state.problem}
        </p>
      ) : (
        <progress
          aria-label={`Uploading ${upload.name}`}
          max={1}
          {...(state.kind === "uploading" ? { value: state.progress } : {})}
          {...(state.kind === "done" ? { value: 1 } : {})}
        />
      )}
      <div class="sending-buttons">
        {state.kind === "uploading" && state.waiting && (
          <span class="sending-waiting" role="status">
            Waiting for the line…
          </span>
        )}
        {state.kind === "failed" && state.retryable && (
          <button type="button" class="button" onClick={() => chat.uploader.retry(upload)}>
            Retry
          </button>
        )}
        {!answering && (
          <button
            type="button"
            class="button quiet"
            onClick={() => session.prompts.cancelUpload(item)}
          >
            {state.kind === "failed" || state.kind === "done" ? "Choose another file" : "Cancel"}
          </button>
        )}
      </div>
    </div>
  );
}

/** The files of the message that is being written. */
import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Upload, UploadState } from "../../core/uploads.ts";
import { readable } from "../bytes.ts";
import { CloseIcon, RetryIcon } from "../icons.tsx";
import { useUi } from "../state.ts";
import { fileAddress } from "./address.ts";
import { FileKindIcon } from "./FileKindIcon.tsx";
import { isPicture } from "./kinds.ts";
import { Thumbnails } from "./thumbnails.ts";

export function DraftFiles() {
  const { chat, focusComposer } = useUi();
  const list = useRef<HTMLUListElement>(null);
  const thumbnails = useMemo(() => new Thumbnails(), []);
  const uploads = chat.attachments.value;
  useAnnouncements();
  const last = uploads.at(-1)?.key;

  // What was just attached is in view, where they are many.
  useEffect(() => {
    if (last) list.current?.lastElementChild?.scrollIntoView({ block: "nearest" });
  }, [last]);

  if (uploads.length === 0) return null;
  const remove = (upload: Upload, index: number) => {
    chat.detach(upload.key);
    // The button leaves: the next one has the focus then, or the text.
    const buttons = list.current?.querySelectorAll<HTMLElement>(".draft-file-remove") ?? [];
    const next = buttons[index + 1] ?? buttons[index - 1];
    if (next) next.focus();
    else focusComposer();
  };
  return (
    <ul ref={list} class="plain-list draft-files" aria-label="Attached files">
      {uploads.map((upload, index) => (
        <DraftFile
          key={upload.key}
          upload={upload}
          thumbnails={thumbnails}
          remove={() => remove(upload, index)}
        />
      ))}
    </ul>
  );
}

interface Props {
  readonly upload: Upload;
  readonly thumbnails: Thumbnails;
  readonly remove: () => void;
}

function DraftFile({ upload, thumbnails, remove }: Props) {
  const { chat } = useUi();
  const state = upload.state.value;
  const { name, size } = upload;
  return (
    <li class="draft-file" data-state={state.kind}>
      <Thumbnail upload={upload} thumbnails={thumbnails} />
      <span class="draft-file-text">
        <bdi class="draft-file-name" title={name}>
          {name}
        </bdi>
        <span class="draft-file-state">{said(state, size)}</span>
      </span>
      {state.kind === "failed" && state.retryable && (
        <button
          type="button"
          class="icon-button small"
          aria-label={`Upload ${name} again`}
          title="Upload again"
          onClick={() => chat.uploader.retry(upload)}
        >
          <RetryIcon size={16} />
        </button>
      )}
      <button
        type="button"
        class="icon-button small draft-file-remove"
        aria-label={`Remove ${name}`}
        title="Remove"
        onClick={remove}
      >
        <CloseIcon size={16} />
      </button>
      {(state.kind === "uploading" || state.kind === "queued") && (
        <progress
          class="draft-file-progress"
          aria-label={`Upload of ${name}`}
          max={100}
          value={state.kind === "queued" ? 0 : Math.floor(state.progress * 100)}
        />
      )}
    </li>
  );
}

function said(state: UploadState, size: number): string {
  switch (state.kind) {
    case "queued":
      return `${readable(size)}, waits`;
    case "uploading":
      if (state.waiting) return "Waits for the line…";
      return `${Math.floor(state.progress * 100)} % of ${readable(size)}`;
    case "done":
      return readable(size);
    case "failed":
      return state.problem;
  }
}

function Thumbnail({ upload, thumbnails }: Pick<Props, "upload" | "thumbnails">) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [shown, setShown] = useState<"nothing" | "drawn" | "broken">("nothing");
  const { source, contentType, size, state } = upload;
  useEffect(() => {
    if (!source || !canvas.current) return;
    const stop = new AbortController();
    void thumbnails.draw(source, canvas.current, stop.signal).then((done) => {
      if (done && !stop.signal.aborted) setShown("drawn");
    });
    return () => stop.abort();
  }, [source, thumbnails]);
  const { value } = state;
  const picture = source === null && isPicture(contentType, size) && shown !== "broken";
  const address = picture && value.kind === "done" ? fileAddress(value.file.url ?? "") : "";
  return (
    <span class="draft-file-picture" aria-hidden="true">
      {source && <canvas ref={canvas} hidden={shown !== "drawn"} />}
      {/* biome-ignore lint/a11y/noNoninteractiveElementInteractions: nobody acts here, the loading fails */}
      {address && <img src={address} alt="" decoding="async" onError={() => setShown("broken")} />}
      {shown !== "drawn" && !address && <FileKindIcon type={contentType} />}
    </span>
  );
}

/** Tells of what happens to the files without anybody doing something. */
function useAnnouncements(): void {
  const { chat, announcer } = useUi();
  const known = useRef<ReadonlyMap<string, UploadState["kind"]>>(new Map());
  useSignalEffect(() => {
    const uploads = chat.attachments.value;
    const now = new Map(uploads.map((each) => [each.key, each.state.value.kind]));
    const before = known.current;
    known.current = now;
    const failed = uploads.filter(
      ({ key }) => now.get(key) === "failed" && before.get(key) !== "failed",
    );
    for (const { name, state } of failed) {
      const at = state.peek();
      announcer.say(`${name} was not uploaded. ${at.kind === "failed" ? at.problem : ""}`);
    }
    const added = uploads.filter(({ key }) => now.get(key) !== "done" && !before.has(key)).length;
    if (added > 0) announcer.say(added === 1 ? "Uploading 1 file." : `Uploading ${added} files.`);
    const isOpen = (kind: UploadState["kind"]) => kind === "queued" || kind === "uploading";
    const ended = uploads.some(
      ({ key }) => now.get(key) === "done" && isOpen(before.get(key) ?? "done"),
    );
    if (ended && ![...now.values()].some(isOpen) && failed.length === 0) {
      announcer.say(uploads.length === 1 ? "The file is uploaded." : "All files are uploaded.");
    }
  });
}

/** Why the message cannot be sent yet, because of its files; empty where it can. */
export function hindrance(uploads: readonly Upload[]): string {
  const kinds = uploads.map(({ state }) => state.value.kind);
  const failed = kinds.filter((kind) => kind === "failed").length;
  const open = kinds.filter((kind) => kind === "queued" || kind === "uploading").length;
  if (open > 0) {
    return open === 1 ? "1 file is being uploaded…" : `${open} files are being uploaded…`;
  }
  if (failed === 0) return "";
  return failed === 1
    ? "1 file was not uploaded. Try again, or remove it."
    : `${failed} files were not uploaded. Try again, or remove them.`;
}

/** Files of a message, or of an answer. */
import { useComputed, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Chat, MessageItem } from "../../core/model.ts";
import { quoted } from "../../core/notices.ts";
import type { Attachment } from "../../wire.ts";
import { readable } from "../bytes.ts";
import { DownloadIcon } from "../icons.tsx";
import { useUi } from "../state.ts";
import { fileAddress, isStale } from "./address.ts";
import { FileKindIcon } from "./FileKindIcon.tsx";
import { ending, isPicture } from "./kinds.ts";

export function Attachments({ item }: { readonly item: MessageItem }) {
  return <FileList all={item.attachments.value} />;
}

export function FileList({ all }: { readonly all: readonly Attachment[] }) {
  if (all.length === 0) return null;
  const pictures = all.filter((each) => isPicture(each.content_type ?? "", Number(each.size)));
  const others = all.filter((each) => !pictures.includes(each));
  return (
    <div class="attachments">
      {pictures.length > 0 && (
        <ul
          class="plain-list pictures"
          aria-label="Pictures"
          data-count={Math.min(4, pictures.length)}
        >
          {pictures.map((each) => (
            <li key={each.file_id}>
              <Picture attachment={each} />
            </li>
          ))}
        </ul>
      )}
      {others.length > 0 && (
        <ul class="plain-list files" aria-label="Files">
          {others.map((each) => (
            <li key={each.file_id}>
              <FileCard attachment={each} />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

interface Props {
  readonly attachment: Attachment;
}

/** A picture in a place that is kept for it; one that is alone has its own proportions then. */
function Picture({ attachment }: Props) {
  const { address, renew, follow } = useAddress(attachment);
  const broken = useSignal(false);
  const tried = useSignal(false);
  const loaded = useSignal(false);
  const { name = "" } = attachment;
  if (broken.value || address.value === "") return <FileCard attachment={attachment} broken />;
  const onError = async () => {
    if (tried.peek() || !(await renew())) broken.value = true;
    tried.value = true;
  };
  return (
    <a
      class="picture"
      data-loaded={loaded.value || undefined}
      href={address.value}
      target="_blank"
      rel="noopener"
      title={name}
      onClick={follow}
    >
      {/* biome-ignore lint/a11y/noNoninteractiveElementInteractions: nobody acts here, the loading fails */}
      <img
        src={address.value}
        alt={name}
        loading="lazy"
        decoding="async"
        onLoad={() => {
          loaded.value = true;
        }}
        onError={onError}
      />
      <span class="sr-only">, opens in a new tab</span>
    </a>
  );
}

function FileCard({ attachment, broken = false }: Props & { readonly broken?: boolean }) {
  const { address, follow } = useAddress(attachment);
  const { name = "", content_type: type = "", size = "0" } = attachment;
  const what = [ending(name), readable(Number(size))].filter((each) => each !== "").join(" · ");
  return (
    <a
      class="file-card"
      // An own address in any case: one that is not there yet is asked for when it is clicked.
      href={address.value || "#"}
      download={name}
      onClick={follow}
    >
      <span class="file-card-icon">
        <FileKindIcon type={type} size={22} />
      </span>
      <span class="file-card-text">
        <bdi class="file-card-name" title={name}>
          {name}
        </bdi>
        <small>{broken ? `${what} · cannot be shown` : what}</small>
      </span>
      <DownloadIcon size={18} />
      <span class="sr-only">Download</span>
    </a>
  );
}

/** The address of a file, which is another one when it comes to its end. */
function useAddress(attachment: Attachment) {
  const { chat } = useUi();
  const { file_id: id = "", url = "" } = attachment;
  const renewed = useSignal("");
  const given = useMemo(() => fileAddress(url), [url]);
  const address = useComputed(() => renewed.value || given);
  const renew = async (): Promise<boolean> => {
    const found = await newAddress(chat, id);
    // The same one again: it was not its end that it did not load. The mark has it asked for anew.
    if (found !== "") renewed.value = found === address.peek() ? `${found}#again` : found;
    return found !== "";
  };
  /** Follows a link whose address may have come to its end. */
  const follow = (event: MouseEvent) => {
    const { currentTarget: link } = event;
    if (!(link instanceof HTMLAnchorElement) || !isStale(address.peek(), Date.now())) return;
    event.preventDefault();
    void renew().then((done) => {
      if (!done) {
        chat.tell(`${quoted(attachment.name ?? "")} cannot be loaded now.`);
        return;
      }
      const fresh = document.createElement("a");
      fresh.href = address.peek();
      fresh.target = link.target;
      fresh.rel = "noopener";
      if (link.hasAttribute("download")) fresh.download = link.download;
      fresh.click();
    });
  };
  return { address, renew, follow };
}

async function newAddress(chat: Chat, id: string): Promise<string> {
  try {
    return fileAddress(await chat.fileUrl(id));
  } catch {
    return ""; // It is gone, or there is no line: whoever asked says so.
  }
}

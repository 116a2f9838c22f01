/** Whether a message is in the log whose request id the sidecar does not remember any more. */

import type { Message, SendMessageResponse } from "../wire.ts";
import type { Api } from "./api.ts";
import { int } from "./items.ts";
import type { OutboxEntry } from "./outboxstore.ts";

/** The sidecar remembers a request id for 24 hours; an hour less, whatever its clock says. */
const REMEMBERED_MS = 23 * 3_600_000;
const PAGE = 50;
/** Pages that are looked through: what is further back is not known. */
const MAX_PAGES = 10;

/** Whether sending it again could put it into the log twice. */
export function isForgotten(entry: OutboxEntry, now: number): boolean {
  return entry.tried && now - entry.triedAt > REMEMBERED_MS;
}

/** Whether a message in the log says what an entry says, and carries what it carries. */
export function isAlike(
  entry: Pick<OutboxEntry, "text" | "attachments">,
  message: Message,
): boolean {
  const its = message.attachments ?? [];
  return (
    (message.text ?? "") === entry.text &&
    its.length === entry.attachments.length &&
    its.every(({ file_id }, at) => file_id === entry.attachments[at]?.file_id)
  );
}

/**
 * Looks for a message in the log, behind the offset that it was typed at.
 *
 * @param taken - Ids of messages that are other ones of the same words.
 * @returns What its answer would have been; null where it is not known to be there.
 * @throws ApiError
 */
export async function findSent(
  api: Api,
  entry: OutboxEntry,
  taken: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<SendMessageResponse | null> {
  const { sessionId, after } = entry;
  let pageToken = "";
  let found: SendMessageResponse | null = null;
  for (let count = 0; after !== null && count < MAX_PAGES; count++) {
    const page = await api.timeline(sessionId, { pageToken, pageSize: PAGE }, signal);
    const items = page.items ?? [];
    const item = items.find(
      ({ message, offset }) =>
        message?.sender === "SENDER_USER" &&
        isAlike(entry, message) &&
        int(offset) > after &&
        !taken.has(message.message_id ?? ""),
    );
    if (item?.message) {
      const { message, offset = "0", invocation_id = "" } = item;
      found = { message, offset, invocation_id }; // The oldest one: what is behind is a later one.
    }
    pageToken = page.next_page_token ?? "";
    if (pageToken === "" || int(items[0]?.place) <= after) {
      break;
    }
  }
  return found;
}

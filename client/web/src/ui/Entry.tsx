/** One entry of a conversation. Each reads its own signals: what streams renders nothing but itself. */
import type { EndedItem, OpenSession, TimelineEntry } from "../core/model.ts";
import { BlockEntry } from "./blocks/BlockEntry.tsx";
import { AlertIcon } from "./icons.tsx";
import { AppMessage, UserMessage } from "./Message.tsx";
import { PromptCard } from "./prompts/PromptCard.tsx";
import { Reference } from "./Reference.tsx";

interface Props {
  readonly item: TimelineEntry;
  readonly session: OpenSession;
}

export function Entry({ item, session }: Props) {
  switch (item.kind) {
    case "message":
      return item.sender === "user" ? (
        <UserMessage item={item} session={session} />
      ) : (
        <AppMessage item={item} session={session} />
      );
    case "block":
      return <BlockEntry item={item} session={session} />;
    case "prompt":
      return <PromptCard item={item} session={session} />;
    case "ended":
      return <Ended item={item} />;
  }
}

const ENDED_TEXT: Record<EndedItem["how"], string> = {
  failed: "Something went wrong.",
  stopped: "Stopped",
  unhandled: "The app has no answer to this.",
};

const REASONS: Readonly<Record<string, string>> = {
  DEADLINE: "The app took too long.",
  HANDLER_LOST: "The app went away in the middle of it.",
};

function Ended({ item }: { readonly item: EndedItem }) {
  if (item.how !== "failed") {
    return <p class={`entry ended quiet ${item.how}`}>{ENDED_TEXT[item.how]}</p>;
  }
  const reason = Object.hasOwn(REASONS, item.reason) ? ` ${REASONS[item.reason]}` : "";
  return (
    <div class="entry ended failed" role="note">
      <AlertIcon size={18} />
      <div>
        <p>
          {ENDED_TEXT.failed}
          {reason}
        </p>
        <Reference id={item.referenceId} />
      </div>
    </div>
  );
}

/** Made-up entries of a conversation; not part of the build. */
import { type Signal, signal } from "@preact/signals";
import type { BlockItem, EndedItem, MessageItem, TimelineEntry } from "../core/model.ts";
import type { Attachment } from "../wire.ts";
import { ANSWER, PICTURE, SHORT } from "./fakeData.ts";
import { attachment } from "./fakeFiles.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type Message = Mutable<MessageItem> & {
  text: Signal<string>;
  streaming: Signal<boolean>;
  interrupted: Signal<boolean>;
  delivery: Signal<"sending" | "failed" | "sent">;
  problem: Signal<string>;
  attachments: Signal<readonly Attachment[]>;
};

let made = 0;

export function message(
  sender: "user" | "app",
  text: string,
  more: { ago?: number } = {},
): Message {
  made += 1;
  return {
    kind: "message",
    key: `m${made}`,
    sender,
    text: signal(text),
    streaming: signal(false),
    interrupted: signal(false),
    delivery: signal("sent"),
    problem: signal(""),
    attachments: signal<readonly Attachment[]>([]),
    createTime: new Date(Date.now() - (more.ago ?? 0)),
  };
}

export function block(type: string, payload: Record<string, unknown>, turn = "i1"): BlockItem {
  made += 1;
  const id = `b${made}`;
  const shown = { payload: signal(payload), invocationId: signal(turn) };
  return { kind: "block", key: id, blockId: id, type, ...shown };
}

export function ended(how: EndedItem["how"], reason = "", referenceId = ""): EndedItem {
  made += 1;
  return { kind: "ended", key: `e${made}`, how, reason, referenceId };
}

export function conversation(count: number, ago = 0): TimelineEntry[] {
  const out: TimelineEntry[] = [];
  for (let i = 0; i < count; i++) {
    const mine = i % 2 === 0;
    const text = mine ? `Question ${i / 2 + 1}: what is a lease?` : i % 4 === 1 ? ANSWER : SHORT;
    out.push(message(mine ? "user" : "app", text, { ago }));
  }
  return out;
}

export function blocks(): TimelineEntry[] {
  return [
    message("user", "Show me what you can do"),
    block("step", { label: "Read the question", status: "completed" }),
    block("step", { label: "Search the archive", status: "completed", detail: "12 documents" }),
    block("step", {
      label: "Ask the weather service",
      status: "failed",
      detail: "It did not answer.",
    }),
    block("step", { label: "Draw a picture", status: "running", detail: "line 1\nline 2\nline 3" }),
    block("step", { label: "Sum it up", status: "pending" }),
    block("step", { label: "Count the words", status: "running" }, "over"),
    block("step", { label: "Read it aloud", status: "running" }, "stopped"),
    block("image", { url: PICTURE, alt: "A green hill under a yellow sun", width: 420 }),
    block("image", { url: "https://example.com/a.png", alt: "A picture from elsewhere" }),
    block("order.status", {
      title: "Order 4711",
      text: "It left the warehouse this morning.",
      carrier: "Northern Parcel",
      paid: true,
      items: ["Lamp", "Cable", "Shade"],
      delivery: { street: "Harbour Road 5", city: "Aarhus", window: { from: "9:00", to: "12:00" } },
      note: null,
      buttons: [
        { label: "Track it", action: "track", style: "primary" },
        { label: "Change the address", action: "address" },
        { label: "Cancel the order", action: "cancel", style: "danger" },
      ],
    }),
    block("counter", { value: 3, buttons: [{ label: "More", action: "more" }] }),
    block("step", { label: 5, status: { evil: true } }),
    block("suggestions", {
      items: ["Tell me more", { label: "Another one", text: "Show me another one" }, "No, thanks"],
    }),
  ];
}

export function withFiles(): TimelineEntry[] {
  const picture = (name: string) => attachment(name, "image/png", 48_213);
  const report = attachment(
    "Quarterly report, final version (2).pdf",
    "application/pdf",
    7_340_032,
  );
  const of = (sender: "user" | "app", text: string, ...files: Attachment[]) => {
    const item = message(sender, text);
    item.attachments.value = files;
    return item;
  };
  const sending = of("user", "And these.", picture("one.png"), picture("two.png"));
  sending.delivery.value = "sending";
  const failed = of("user", "", attachment("notes.txt", "text/plain", 812));
  failed.delivery.value = "failed";
  failed.problem.value = "too many messages wait already. Try again in a moment.";
  return [
    of("user", "What is in this picture?", picture("harbour.png")),
    of(
      "app",
      "A green hill under a yellow sun. I drew two more.",
      picture("a.png"),
      picture("b.png"),
    ),
    of("user", "", picture("a.png"), picture("b.png"), picture("c.png"), picture("d.png"), report),
    of("app", SHORT, report, attachment("data.csv", "text/csv", 1_234)),
    sending,
    failed,
  ];
}

/**
 * Checks of what blocks carry. A payload comes from an app, and may come from a model or from a web
 * page that it read: no field is what it should be until it was looked at.
 */

import { isFile, isImageData } from "../../markdown/urls.ts";
import { fileAddress } from "../attachments/address.ts";

export type Payload = Readonly<Record<string, unknown>>;

const LABEL_CHARS = 200;
const MOST_CHIPS = 12;
const MOST_BUTTONS = 12;
const WIDEST = 4096;

export interface Chip {
  readonly label: string;
  readonly text: string;
}

export interface Button {
  readonly label: string;
  readonly action: string;
  readonly payload: unknown;
  readonly style: "primary" | "danger" | "plain";
}

export interface Picture {
  /** The file that the sidecar keeps; its address can be renewed. Empty: it is none. */
  readonly fileId: string;
  /** A file of this origin, or data. Empty: it is elsewhere, or its address is to be asked for. */
  readonly source: string;
  /** Any other http or https address: to be linked, not loaded. */
  readonly elsewhere: string;
  /** What it shows; empty: it is decoration. */
  readonly alt: string;
  /** The file's; empty: not known. */
  readonly name: string;
  /** CSS pixels; null: as it is. */
  readonly width: number | null;
  readonly height: number | null;
}

export interface Step {
  readonly label: string;
  readonly status: "pending" | "running" | "completed" | "failed";
  readonly detail: string;
}

/** Returns an own field; never what objects inherit. */
export function field(payload: Payload, name: string): unknown {
  return Object.hasOwn(payload, name) ? payload[name] : undefined;
}

export function isRecord(value: unknown): value is Payload {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns a text on one line, cut where it is too long; empty where it is no text. */
export function line(value: unknown, most = LABEL_CHARS): string {
  if (typeof value !== "string") return "";
  const text = value
    .slice(0, most * 4)
    .replace(/\s+/g, " ")
    .trim();
  return text.length > most ? `${text.slice(0, most - 1).trimEnd()}…` : text;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Returns the suggestions; null where there is none. */
export function chipsOf(payload: Payload): readonly Chip[] | null {
  const items = field(payload, "items");
  if (!Array.isArray(items)) return null;
  const chips: Chip[] = [];
  for (const item of items.slice(0, MOST_CHIPS)) {
    const label = line(isRecord(item) ? field(item, "label") : item);
    const sent = isRecord(item) ? text(field(item, "text")).trim() : text(item).trim();
    if (label) chips.push({ label, text: sent || label });
  }
  return chips.length > 0 ? chips : null;
}

export function buttonsOf(payload: Payload): readonly Button[] {
  const buttons = field(payload, "buttons");
  if (!Array.isArray(buttons)) return [];
  const out: Button[] = [];
  for (const button of buttons.slice(0, MOST_BUTTONS)) {
    if (!isRecord(button)) continue;
    const action = text(field(button, "action"));
    if (!action) continue;
    const style = field(button, "style");
    out.push({
      label: line(field(button, "label")) || line(action),
      action,
      payload: field(button, "payload") ?? {},
      style: style === "primary" || style === "danger" ? style : "plain",
    });
  }
  return out;
}

const STATUSES = ["pending", "running", "completed", "failed"] as const;

/** Returns the step; null where it has neither a label nor a status that is known. */
export function stepOf(payload: Payload): Step | null {
  const label = line(field(payload, "label"), 400);
  const given = field(payload, "status");
  const status = STATUSES.find((known) => known === given);
  if (!label || (given !== undefined && !status)) return null;
  return { label, status: status ?? "running", detail: text(field(payload, "detail")).trim() };
}

/** Returns the picture; null where there is no address that may be shown or linked, and no file. */
export function pictureOf(payload: Payload, base: string): Picture | null {
  const fileId = text(field(payload, "file_id"));
  const address = text(field(payload, "url")) || text(field(payload, "src"));
  const place = fileId
    ? { source: ownFile(fileId, address), elsewhere: "" }
    : placeOf(address, base);
  if (!place) return null;
  return {
    fileId,
    ...place,
    alt: line(field(payload, "alt"), 1000),
    name: line(field(payload, "name")),
    width: pixels(field(payload, "width")),
    height: pixels(field(payload, "height")),
  };
}

/** The path of a file's signed address: the sidecar may know itself under another origin. */
function ownFile(fileId: string, address: string): string {
  const path = fileAddress(address);
  return path.startsWith(`/files/${fileId}/`) ? path : "";
}

function placeOf(address: string, base: string): Pick<Picture, "source" | "elsewhere"> | null {
  if (!address) return null;
  if (isImageData(address)) return { source: address, elsewhere: "" };
  let url: URL;
  try {
    url = new URL(address, base);
  } catch {
    return null;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  if (url.origin === new URL(base).origin && isFile(url.pathname)) {
    return { source: url.href, elsewhere: "" };
  }
  return { source: "", elsewhere: url.href };
}

function pixels(value: unknown): number | null {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 1) return null;
  return Math.min(Math.round(value), WIDEST);
}

/** Returns the name of a type or field as a person reads it: "order_status" is "Order status". */
export function humanised(name: string): string {
  const words = name
    .slice(0, LABEL_CHARS)
    .replace(/([\p{Ll}\d])(\p{Lu})/gu, "$1 $2")
    .replace(/[_.\-\s]+/g, " ")
    .trim();
  if (!words) return name;
  const first = words.charAt(0).toUpperCase();
  // A name in capitals is an abbreviation, or shouts; either way it is what the app says.
  const rest = words.slice(1);
  return first + (rest === rest.toUpperCase() ? rest : rest.toLowerCase());
}

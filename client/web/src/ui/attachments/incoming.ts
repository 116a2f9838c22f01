/** Files that a person drops or pastes. */

export interface Incoming {
  readonly files: readonly File[];
  /** Folders that were among them: a browser gives them as files that cannot be read. */
  readonly folders: number;
}

/** Whether files are being dragged. */
export function hasFiles(transfer: DataTransfer | null): boolean {
  return transfer?.types.includes("Files") ?? false;
}

/** Returns what was dropped. */
export function dropped(transfer: DataTransfer): Incoming {
  let folders = 0;
  const files: File[] = [];
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    if (item.webkitGetAsEntry?.()?.isDirectory) {
      folders += 1;
      continue;
    }
    const file = item.getAsFile();
    if (file) files.push(file);
  }
  return { files, folders };
}

/** Returns what was pasted, under names that say something; empty where the text of it is meant. */
export function pasted(transfer: DataTransfer, now: Date): readonly File[] {
  const files = [...transfer.files];
  // What comes out of a document or a table is text, and a picture of it for those that take none.
  const text = transfer.types.includes("text/html") && transfer.getData("text/plain").trim() !== "";
  if (text) return [];
  return files.map((file, index) => {
    if (!isNameless(file.name)) return file;
    const number = files.length > 1 ? ` (${index + 1})` : "";
    const name = `Pasted ${what(file.type)} ${stamp(now)}${number}${suffix(file)}`;
    return new File([file], name, { type: file.type, lastModified: file.lastModified });
  });
}

function isNameless(name: string): boolean {
  return name === "" || /^(?:image|blob|file)(?:\.\w+)?$/i.test(name);
}

function what(type: string): string {
  return type.startsWith("image/") ? "picture" : "file";
}

function suffix({ name, type }: File): string {
  const had = /\.\w+$/.exec(name)?.[0];
  const subtype = /^image\/([a-z]+)$/.exec(type)?.[1];
  return had ?? (subtype ? `.${subtype === "jpeg" ? "jpg" : subtype}` : "");
}

/** As 2026-01-31 at 09.05.07: colons are not for file names. */
function stamp(now: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `${day} at ${two(now.getHours())}.${two(now.getMinutes())}.${two(now.getSeconds())}`;
}

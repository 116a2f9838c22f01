/** What kind of file something is, as far as a person is concerned. */

export type Kind = "picture" | "text" | "sound" | "movie" | "archive" | "other";

/** Pictures that the page shows: made of dots, and decoded by every browser. */
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"]);
/** Larger ones are not loaded unless asked for. */
export const MAX_PICTURE_BYTES = 20 * 1_048_576;

const ARCHIVES = /zip|gzip|x-tar|x-7z|x-rar|x-bzip|zstd|x-xz/;
const TEXTS = /^text\/|pdf|msword|officedocument|opendocument|rtf|json|xml|yaml/;

/** Returns the kind of a media type. */
export function kindOf(contentType: string): Kind {
  const type = plainType(contentType);
  if (type.startsWith("image/")) return "picture";
  if (type.startsWith("audio/")) return "sound";
  if (type.startsWith("video/")) return "movie";
  if (ARCHIVES.test(type)) return "archive";
  return TEXTS.test(type) ? "text" : "other";
}

/** Whether the page shows a file as a picture. */
export function isPicture(contentType: string, size: number): boolean {
  return PICTURES.has(plainType(contentType)) && size <= MAX_PICTURE_BYTES;
}

function plainType(contentType: string): string {
  return (contentType.split(";")[0] ?? "").trim().toLowerCase();
}

/** Returns what a kind of file is called: its ending, as "PDF"; empty where it has none. */
export function ending(name: string): string {
  return /\.([A-Za-z\d]{1,5})$/.exec(name)?.[1]?.toUpperCase() ?? "";
}

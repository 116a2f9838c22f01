/** What a file prompt takes, in the form of HTML's `accept`. */

const KINDS: Readonly<Record<string, string>> = {
  "image/*": "images",
  "audio/*": "audio",
  "video/*": "videos",
  "text/*": "texts",
  "text/plain": "TXT",
  "text/csv": "CSV",
  "application/pdf": "PDF",
  "application/json": "JSON",
  "application/zip": "ZIP",
};

function tokens(accept: string): string[] {
  return accept
    .split(",")
    .map((each) => each.trim().toLowerCase())
    .filter(Boolean);
}

/**
 * Whether a file is one that is taken. A file whose type the browser does not know is let through
 * where a type is asked for: the sidecar looks at it.
 */
export function accepts(accept: string, file: { name: string; type: string }): boolean {
  const wanted = tokens(accept);
  const name = file.name.toLowerCase();
  const type = file.type.toLowerCase().split(";", 1)[0]?.trim() ?? "";
  if (wanted.length === 0) return true;
  return wanted.some((each) => {
    if (each.startsWith(".")) return name.endsWith(each);
    if (each === "*/*" || type === "") return true;
    return each.endsWith("/*") ? type.startsWith(each.slice(0, -1)) : type === each;
  });
}

/** Returns what is taken as a person says it: "PDF or images"; empty: anything. */
export function acceptWords(accept: string): string {
  const names = [...new Set(tokens(accept).map(nameOf))].filter(Boolean);
  if (names.length < 2) return names[0] ?? "";
  return `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function nameOf(token: string): string {
  if (token === "*/*") return "";
  if (token.startsWith(".")) return token.slice(1).toUpperCase();
  return (Object.hasOwn(KINDS, token) ? KINDS[token] : undefined) ?? token;
}

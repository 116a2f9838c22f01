/** Returns the app's name of a path as `/apps/demo`; empty where there is none. */
export function appOf(path: string): string {
  const name = /^\/apps\/([^/]+)/.exec(path)?.[1] ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

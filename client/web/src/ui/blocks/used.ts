import type { BlockItem, OpenSession } from "../../core/model.ts";

/**
 * Whether suggestions have served: the person has written something since, one of them or not.
 * A message that could not be sent does not count; what was suggested can then be said again.
 */
export function isUsed(item: BlockItem, session: OpenSession): boolean {
  const items = session.items.value;
  for (let at = items.length - 1; at >= 0; at--) {
    const each = items[at];
    if (each === item) return false;
    if (each?.kind === "message" && each.sender === "user") {
      if (each.delivery.value !== "failed") return true;
    }
  }
  return false;
}

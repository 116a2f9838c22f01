/** How large a picture is shown: in its own proportions, whatever was asked for. */

/** CSS pixels that a picture is high at most where nothing was asked for. */
const MOST_HEIGHT = 512;

interface Asked {
  readonly width: number | null;
  readonly height: number | null;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * Returns the size of a picture in CSS pixels; a narrow page makes it smaller yet, by itself.
 *
 * @param natural - The picture's own.
 * @param room - CSS pixels that it can be high at most, without being larger than the view.
 * @returns null where it has no size of its own.
 */
export function fitted(asked: Asked, natural: Size, room: number): Size | null {
  if (natural.width < 1 || natural.height < 1) return null;
  const free = asked.width === null && asked.height === null;
  const wanted = asked.width
    ? asked.width / natural.width
    : (asked.height ?? natural.height) / natural.height;
  const most = Math.max(1, free ? Math.min(room, MOST_HEIGHT) : room);
  const scale = Math.min(wanted, most / natural.height);
  return { width: whole(natural.width * scale), height: whole(natural.height * scale) };
}

/** Never more: what is too wide by a part of a dot may be too high by many. */
function whole(dots: number): number {
  return Math.max(1, Math.floor(dots + 1e-6));
}

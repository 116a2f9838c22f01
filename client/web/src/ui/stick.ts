/** Whether a view keeps to the bottom of a text that grows: pure, so that it can be tested. */

export interface Place {
  /** Pixels above the view. */
  readonly top: number;
  /** Pixels of the whole content. */
  readonly height: number;
  /** Pixels of the view. */
  readonly view: number;
}

/** Pixels from the bottom within which a person who scrolls down is taken to be there. */
const NEAR = 32;
/** Pixels that rounding, zoom and a bouncing edge may cost. */
const SLACK = 2;

export function distance(place: Place): number {
  return Math.max(0, place.height - place.view - place.top);
}

/**
 * Returns whether the view sticks to the bottom after it scrolled.
 *
 * Growth never lets go, as it leaves `top` where it was; only a move upwards does, however small,
 * so that a person does not have to wrestle with a streaming answer.
 */
export function sticks(stuck: boolean, before: Place, now: Place): boolean {
  const rest = distance(now);
  if (rest <= SLACK) return true;
  if (now.top < before.top - 1 && now.height >= before.height - SLACK) {
    return now.view > before.view + SLACK ? stuck : false;
  }
  if (now.top > before.top) return stuck || rest <= NEAR;
  return stuck;
}

/** Which component shows a block of a type. */
import type { VNode } from "preact";
import type { BlockItem, OpenSession } from "../../core/model.ts";
import { ImageBlock } from "./ImageBlock.tsx";
import { chipsOf, type Payload, pictureOf, stepOf } from "./payload.ts";
import { StepBlock } from "./StepBlock.tsx";
import { Suggestions } from "./Suggestions.tsx";
import { TaskBlock } from "./TaskBlock.tsx";
import { taskOf } from "./task.ts";

/** Returns what shows the payload; null where the payload is not what the type promises. */
export type Renderer = (payload: Payload, session: OpenSession, item: BlockItem) => VNode | null;

/** A map, not an object: `constructor` is a type that an app may choose. */
export const RENDERERS: ReadonlyMap<string, Renderer> = new Map<string, Renderer>([
  [
    "image",
    (payload) => {
      const picture = pictureOf(payload, document.baseURI);
      return picture && <ImageBlock picture={picture} />;
    },
  ],
  [
    "suggestions",
    (payload, session) => {
      const chips = chipsOf(payload);
      return chips && <Suggestions chips={chips} session={session} />;
    },
  ],
  [
    "step",
    (payload, session, item) => {
      const step = stepOf(payload);
      return step && <StepBlock step={step} item={item} session={session} />;
    },
  ],
  [
    "task",
    (payload, session) => {
      const task = taskOf(payload);
      return task && <TaskBlock task={task} session={session} />;
    },
  ],
]);

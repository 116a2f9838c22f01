import { useState } from "preact/hooks";
import { LinkIcon, PictureIcon } from "../icons.tsx";
import type { Picture } from "./payload.ts";

export function ImageBlock({ picture }: { readonly picture: Picture }) {
  const [broken, setBroken] = useState("");
  const { source, elsewhere, alt, width, height } = picture;
  if (elsewhere) {
    return (
      <a
        class="card image-link"
        href={elsewhere}
        target="_blank"
        rel="noopener noreferrer nofollow"
      >
        <PictureIcon />
        <span>
          {alt || "Image"}
          <small>{new URL(elsewhere).host}</small>
        </span>
        <LinkIcon size={17} />
      </a>
    );
  }
  if (broken === source) {
    return (
      <p class="card image-link quiet">
        <PictureIcon />
        <span>
          {alt || "Image"}
          <small>It could not be loaded.</small>
        </span>
      </p>
    );
  }
  return (
    <figure class="image">
      {/* biome-ignore lint/a11y/noNoninteractiveElementInteractions: nobody acts here, the loading fails */}
      <img
        src={source}
        alt={alt}
        loading="lazy"
        decoding="async"
        {...(width === null ? {} : { width })}
        {...(height === null ? {} : { height })}
        onError={() => setBroken(source)}
      />
    </figure>
  );
}

import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fileAddress } from "../attachments/address.ts";
import { LinkIcon, PictureIcon, RetryIcon } from "../icons.tsx";
import { useUi } from "../state.ts";
import { fitted, type Size } from "./fit.ts";
import type { Picture } from "./payload.ts";

/** CSS pixels of a view that are not for a picture. */
const MARGIN = 32;

export function ImageBlock({ picture }: { readonly picture: Picture }) {
  return picture.elsewhere ? <Elsewhere picture={picture} /> : <Shown picture={picture} />;
}

/** A page never loads an image of a third party. */
function Elsewhere({ picture: { elsewhere, alt, name } }: { readonly picture: Picture }) {
  return (
    <a class="card image-link" href={elsewhere} target="_blank" rel="noopener noreferrer nofollow">
      <PictureIcon />
      <span>
        <bdi>{alt || name || "Image"}</bdi>
        <small>{new URL(elsewhere).host}</small>
      </span>
      <LinkIcon size={17} />
    </a>
  );
}

/** Signed addresses end after some days: one that fails is asked for anew, once. */
function Shown({ picture }: { readonly picture: Picture }) {
  const { chat } = useUi();
  const { fileId, source, alt, name, width, height } = picture;
  const renewed = useSignal("");
  const broken = useSignal(false);
  /** A new one loads even where the address is the same. */
  const attempt = useSignal(0);
  /** null: it is not there yet. */
  const size = useSignal<Size | null>(null);
  const address = useComputed(() => renewed.value).value || source;

  const renew = async () => {
    let found = "";
    try {
      found = fileAddress(await chat.fileUrl(fileId));
    } catch {
      // It is gone, or there is no line: what is shown says so, and it can be tried again.
    }
    broken.value = found === "";
    renewed.value = found;
    attempt.value += 1;
  };
  const onLoad = (image: HTMLImageElement) => {
    const natural = { width: image.naturalWidth, height: image.naturalHeight };
    const view = image.closest(".scroller")?.clientHeight ?? innerHeight;
    size.value = fitted(picture, natural, view - MARGIN);
  };
  const onError = () => {
    if (fileId && renewed.peek() === "") void renew();
    else broken.value = true;
  };
  // Another picture in the same place, or one that was told without its address.
  // biome-ignore lint/correctness/useExhaustiveDependencies: what the picture is
  useEffect(() => {
    renewed.value = "";
    broken.value = false;
    size.value = null;
    if (source === "") void renew();
  }, [fileId, source]);

  const asked = { ...(width === null ? {} : { width }), ...(height === null ? {} : { height }) };
  if (broken.value) {
    return (
      <p class="card image-link quiet">
        <PictureIcon />
        <span>
          <bdi>{alt || name || "Image"}</bdi>
          <small>It could not be loaded.</small>
        </span>
        {fileId && (
          <button type="button" class="icon-button" aria-label="Try again" onClick={renew}>
            <RetryIcon size={17} />
          </button>
        )}
      </p>
    );
  }
  return (
    <figure class="image" data-empty={address === "" || undefined}>
      {address !== "" && (
        // biome-ignore lint/a11y/noNoninteractiveElementInteractions: nobody acts here, the loading fails
        <img
          key={attempt.value}
          src={address}
          alt={alt}
          loading="lazy"
          decoding="async"
          data-loaded={size.value !== null || undefined}
          {...(size.value ?? asked)}
          onLoad={(event) => onLoad(event.currentTarget)}
          onError={onError}
        />
      )}
    </figure>
  );
}

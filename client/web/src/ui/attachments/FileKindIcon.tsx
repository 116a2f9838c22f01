import {
  ArchiveIcon,
  FileIcon,
  MovieIcon,
  PictureIcon,
  SoundIcon,
  TextFileIcon,
} from "../icons.tsx";
import { kindOf } from "./kinds.ts";

const ICONS = {
  picture: PictureIcon,
  text: TextFileIcon,
  sound: SoundIcon,
  movie: MovieIcon,
  archive: ArchiveIcon,
  other: FileIcon,
};

/** The icon of a file's media type. */
export function FileKindIcon({
  type,
  size = 20,
}: {
  readonly type: string;
  readonly size?: number;
}) {
  const Icon = ICONS[kindOf(type)];
  return <Icon size={size} />;
}

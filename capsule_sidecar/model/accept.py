"""Which files a prompt takes: HTML's `accept`, as a rule that is kept.

The form is that of the WHATWG HTML standard, section 4.10.5.1.17: kinds separated by commas, each
a name's end that begins with a dot, a media type, or `audio/*`, `video/*` or `image/*`.
"""

from __future__ import annotations

import re

from capsule_sidecar.model.errors import InvalidArgument

_EXTENSION = re.compile(r"\.[^\s/\\,]+")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")


def kinds(accept: str) -> list[str]:
    """Return what an `accept` names, in lower case."""
    return [kind for part in accept.split(",") if (kind := part.strip().lower())]


def check(accept: str, field: str) -> None:
    """Check that an `accept` can be kept.

    Raises:
        InvalidArgument: Something is neither a name's end nor a media type.
    """
    for kind in kinds(accept):
        if kind != "*/*" and not _EXTENSION.fullmatch(kind) and not _MEDIA_TYPE.fullmatch(kind):
            raise InvalidArgument(
                field,
                f"{kind[:80]!r} is neither a name's end, as .pdf, nor a media type, as image/*",
            )


def accepts(accept: str, name: str, content_type: str) -> bool:
    """Tell whether a file is of a kind that an `accept` names; an empty one names all."""
    wanted = kinds(accept)
    media_type = content_type.partition(";")[0].strip().lower()
    return not wanted or any(_is_of(kind, name.lower(), media_type) for kind in wanted)


def _is_of(kind: str, name: str, media_type: str) -> bool:
    if kind.startswith("."):
        return name.endswith(kind)
    if kind == "*/*":
        return True
    if kind.endswith("/*"):
        return media_type.startswith(kind[:-1])
    return media_type == kind

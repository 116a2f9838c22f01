"""Text measured in the bytes it takes, and cut between characters."""

from __future__ import annotations

from capsule_client.errors import InvalidArgument


def size(text: str) -> int:
    """Returns the bytes of `text`; raises InvalidArgument for a lone surrogate."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"text: not valid Unicode: {error.reason}") from None


def cut(text: str, size: int) -> tuple[str, int]:
    """Returns the longest beginning of `text` within `size` bytes, and its bytes."""
    part = text.encode()[: max(size, 0)].decode("utf-8", "ignore")
    return part, len(part.encode())


def common(one: str, other: str) -> int:
    """Returns how many characters two strings begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

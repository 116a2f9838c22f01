"""What handlers read and build: plain values without any tie to the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a message carries.

    Attributes:
        name: A file name without directories.
        content_type: A media type, as `image/png`.
        url: A signed address, valid for 7 days.
        size: Bytes.
        id: The file's id.
    """

    name: str
    content_type: str
    url: str
    size: int
    id: str


@dataclass(frozen=True, slots=True)
class Message:
    """One complete text of a conversation.

    Attributes:
        text: Its words; empty only in an interrupted reply that had none yet.
        sender: `"user"` or `"app"`.
        channel_type: The channel it was written on, as `chat`.
        timestamp: When it was accepted, Unix epoch seconds.
        attachments: The files it carries.
        id: Its id.
        interrupted: True where a streamed reply ended early.
    """

    text: str
    sender: Literal["user", "app"] = "user"
    channel_type: str = ""
    timestamp: float = 0.0
    attachments: Sequence[Attachment] = ()
    id: str = ""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structured UI.

    Attributes:
        type: How a client renders it: 1 to 64 characters of `[a-z0-9_.-]`.
        payload: JSON, at most 64 KiB.
        id: Showing a block again with the same id changes it in place. Empty: a new one.
    """

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A click on a block.

    Attributes:
        name: The action's name.
        block_id: The block that was clicked; empty where there is none.
        payload: The JSON value that came with it.
    """

    name: str
    block_id: str
    payload: Any


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An app-scoped person: the same e-mail address in two apps is two users.

    Attributes:
        id: Never empty.
        email: Empty where it is not known or not verified.
        org_id: Empty where the user is no member of an organisation.
    """

    id: str
    email: str = ""
    org_id: str = ""

    @property
    def owner_id(self) -> str:
        """`org:<org_id>` for a member of an organisation, else `id`."""
        return f"org:{self.org_id}" if self.org_id else self.id


@dataclass(frozen=True, slots=True)
class SessionChannel:
    """The network that a session lives on.

    Attributes:
        type: `chat`, `api`, `telegram`, `terminal`, or an adapter's own name.
    """

    type: str

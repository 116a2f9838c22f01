"""The signed addresses of files, and the one place that puts them into what is read.

The log holds ids. Whatever carries a file is looked through here on its way out: events to
followers, pages, histories, prompts. Most of it carries none, which one search of its bytes tells.
"""

from __future__ import annotations

import hashlib
import json
import math
from urllib.parse import quote

from itsdangerous import Signer

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.model.blocks import image_file
from capsule_sidecar.model.errors import PermissionDenied
from capsule_sidecar.model.types import File
from capsule_sidecar.storage.clock import Clock
from capsule_sidecar.storage.prompts import prompt_of

# Every id of a file begins with it, and so stands in whatever names one.
_MARK = b"fil_"
# As `"\u0066il_..."` does in a block's payload.
_ESCAPE = rb"\u00"
# Addresses made within this share of their time are the same, so that a browser keeps what it has.
_STEPS = 100
_LONGEST_STEP = 3600.0
# Of a name, in an address: its end. A page of messages has room for that many addresses.
_NAME = 64
# What helps whoever has a right to the file; who has none learns nothing by it.
_AGAIN = "GET .../v1/files/{file_id}, or reading the message again, gives a new one"


class Addresses:
    """Makes, checks and fills in addresses.

    Args:
        key: What they are signed with.
        ttl: Seconds that they are good for, and a hundredth more.
        base: The sidecar's address as others see it, as `https://chat.example.com`. It may be
            changed once what is listened on is known.
        clock: What their time is told by. None: this machine's.
    """

    def __init__(self, key: bytes, ttl: float, base: str, clock: Clock | None = None) -> None:
        self.base = base
        self._clock = clock or Clock()
        self._signer = Signer(
            key, salt="capsule.files", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._ttl = ttl
        self._step = max(1, int(min(ttl / _STEPS, _LONGEST_STEP)))

    def url(self, file_id: str, name: str) -> str:
        """Return the signed address of a file.

        Args:
            file_id: The file.
            name: What a browser names it by; any will do.
        """
        expires = -(-math.ceil(self._clock.now_ms() / 1000 + self._ttl) // self._step) * self._step
        signature = self._signer.get_signature(f"{file_id}.{expires}").decode()
        path = f"/files/{quote(file_id, safe='')}/{_short(name)}"
        return f"{self.base}{path}?expires={expires}&signature={signature}"

    def check(self, file_id: str, expires: str, signature: str) -> float:
        """Check an address; return the seconds that it is still good for.

        Raises:
            PermissionDenied: A part of it is missing, it is not as this sidecar signed it, or its
                time is over.
        """
        if not (expires and signature):
            missing = "signature" if expires else "expires"
            raise PermissionDenied(f"this address has lost its `{missing}`; {_AGAIN}")
        signed = f"{file_id}.{expires}".encode()
        if not (signature.isascii() and self._signer.verify_signature(signed, signature)):
            raise PermissionDenied(f"this address is not as this sidecar signed it; {_AGAIN}")
        left = int(expires) - self._clock.now_ms() / 1000
        if left <= 0:
            raise PermissionDenied(f"the time of this address is over; {_AGAIN}")
        return left

    # -- filling in --------------------------------------------------------------------------

    def file(self, value: File) -> types_pb2.File:
        """Return a file as the contract has it."""
        shown = types_pb2.File(
            file_id=value.file_id, name=value.name, content_type=value.content_type,
            size=value.size, sha256=value.sha256, session_id=value.session_id,
            url=self.url(value.file_id, value.name),
        )  # fmt: skip
        shown.create_time.FromMilliseconds(value.create_ms)
        return shown

    def event(self, data: bytes) -> bytes:
        """Return an encoded Event with addresses."""
        if not _may_name(data):
            return data
        event = events_pb2.Event.FromString(data)
        match event.WhichOneof("kind"):
            case "message_added":
                self._message(event.message_added.message)
            case "block_shown":
                self._block(event.block_shown.block)
            case "prompt_opened" | "prompt_ended":
                self._prompt(prompt_of(event))
            case _:
                return data
        return event.SerializeToString()

    def message(self, data: bytes) -> bytes:
        """Return an encoded Message with addresses."""
        if _MARK not in data:
            return data
        message = types_pb2.Message.FromString(data)
        self._message(message)
        return message.SerializeToString()

    def messages(self, data: list[bytes]) -> list[bytes]:
        """Return encoded Messages with addresses; that none carries a file, one search tells."""
        if _MARK not in b"".join(data):
            return data
        return [self.message(message) for message in data]

    def prompt(self, data: bytes) -> bytes:
        """Return an encoded Prompt with addresses."""
        if _MARK not in data:
            return data
        prompt = types_pb2.Prompt.FromString(data)
        self._prompt(prompt)
        return prompt.SerializeToString()

    def _message(self, message: types_pb2.Message) -> None:
        for attachment in message.attachments:
            attachment.url = self.url(attachment.file_id, attachment.name)

    def _prompt(self, prompt: types_pb2.Prompt) -> None:
        if prompt.WhichOneof("kind") == "file" and prompt.file.HasField("answer"):
            answer = prompt.file.answer
            answer.url = self.url(answer.file_id, answer.name)

    def _block(self, block: types_pb2.Block) -> None:
        if block.type != "image":
            return
        try:
            file_id, name = image_file(block.payload_json)
        except (ValueError, RecursionError):
            return  # blocks of an older sidecar may carry anything
        if file_id:
            # The bytes stay as they were given, numbers and their order among them.
            url = json.dumps(self.url(file_id, name or "image")).encode()
            shown = block.payload_json.rstrip().removesuffix(b"}").rstrip()
            block.payload_json = shown + b', "url": ' + url + b"}"


def _may_name(data: bytes) -> bool:
    """Whether something may name a file, also in JSON that writes letters as escapes."""
    return _MARK in data or _ESCAPE in data


def _short(name: str) -> str:
    quoted = quote(name, safe="")
    while len(quoted) > _NAME:
        name = name[max(1, (len(quoted) - _NAME) // 9) :]
        quoted = quote(name, safe="")
    return quoted

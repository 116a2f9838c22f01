"""Images that handlers show: files of the session, as blocks.

Each function runs on the writer thread, inside a unit of work.
"""

from __future__ import annotations

import json

from sqlalchemy import select

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.blocks import image_file
from capsule_sidecar.model.errors import DomainError, InvalidArgument, NotFound
from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import Block, File, ItemKind, Lease
from capsule_sidecar.storage import attempts, encoding, files, schema, streams
from capsule_sidecar.storage.places import place_now
from capsule_sidecar.storage.requests import (
    Answer,
    Request,
    handler_scope,
    once,
    remember,
    repeated,
)
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit


def show_image(
    unit: Unit, app: int, lease: Lease, request: Request, file_id: str, alt: str, width: int
) -> Answer:
    """Show a file of the session as an image. Answers the offset and the block's id.

    A later attempt uploads its image anew, so what it repeats is known by what the file holds; its
    own file is due for removal then.

    Raises:
        NotFound: The file is not this session's.
        InvalidArgument: It is no image.
    """
    missing: DomainError | None = None
    file: File | None = None
    try:
        session = unit.session_by_id(unit.invocation(lease.invocation_id, app).session)
        (file,) = files.usable(unit, session, [file_id], "file_id", check_image)
        request = request._replace(match=digest("image", file.sha256, alt, str(width)))
    except (NotFound, InvalidArgument) as error:
        missing = error  # what was answered before is answered again all the same

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        if file is None:
            assert missing is not None
            raise missing
        found = repeated(unit, invocation, request)
        if found is not None:
            _drop_copy(unit, session, invocation, file)
            return found, invocation
        streams.withdraw_earlier(unit, session, invocation)
        assert request.match is not None
        block = Block("image", _payload(file, alt, width), new_id("blk"))
        place = place_now(unit, session, invocation)
        offset = unit.append(
            session, encoding.block_shown(block), place=place, invocation=invocation,
            repeat=(int(request.method), request.match),
        )  # fmt: skip
        unit.put_item(session, place, offset, ItemKind.BLOCK, offset, block.block_id)
        files.take(unit, session, [file_id])
        answer = Answer(offset, (block.block_id,))
        remember(invocation, request, answer)
        return answer, invocation

    return once(unit, handler_scope(app, request.method), request, work_)


def check_image(file: File) -> InvalidArgument | None:
    """Say what is wrong with a file that is to be shown."""
    if file.content_type.startswith("image/"):
        return None
    return InvalidArgument("file_id", f"{file.name!r} is {file.content_type}, which is no image")


def named_file(block: Block) -> list[str]:
    """Return the file that a block's payload, checked, names, if it does."""
    file_id = image_file(block.payload_json)[0] if block.type == "image" else ""
    return [file_id] if file_id else []


def _payload(file: File, alt: str, width: int) -> bytes:
    payload: dict[str, object] = {"file_id": file.file_id, "name": file.name}
    if alt:
        payload["alt"] = alt
    if width:
        payload["width"] = width
    return json.dumps(payload, ensure_ascii=False).encode()


def _drop_copy(unit: Unit, session: SessionRow, invocation: InvocationRow, file: File) -> None:
    """Let a file be removed that this invocation uploaded again and that nothing else names."""
    if file.create_ms < invocation.create_ms:
        return
    columns = schema.events.c
    mark = file.file_id.encode()
    for row in unit.query(
        select(columns.data).where(
            columns.session == session.id, columns.offset >= invocation.place
        )
    ):
        if mark in row.data and _names(bytes(row.data), file.file_id):
            return
    files.drop(unit, [file.file_id])


def _names(data: bytes, file_id: str) -> bool:
    """Whether an event has a file: a text may only speak of it."""
    event = events_pb2.Event.FromString(data)
    return event.WhichOneof("kind") != "message_added" or any(
        attachment.file_id == file_id for attachment in event.message_added.message.attachments
    )

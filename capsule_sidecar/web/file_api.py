"""Files over HTTP: up as one part of a form, down by a signed address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from capsule_protocol.v1 import file_service_pb2 as pb
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.types import File
from capsule_sidecar.runtime.files import Files
from capsule_sidecar.runtime.rates import Shares
from capsule_sidecar.runtime.taking import Upload
from capsule_sidecar.storage.log import Person
from capsule_sidecar.web.chat_api import REQUEST_ID
from capsule_sidecar.web.file_form import AROUND, FIELD, NAME_FIELD, FileForm
from capsule_sidecar.web.file_response import FileResponse
from capsule_sidecar.web.json_form import to_json
from capsule_sidecar.web.operations import Operation, Query
from capsule_sidecar.web.requests import JSON, Visitor, Visitors, network_of, request_id_of

# What one address may have of all uploads, as bodies.py has it of bodies.
_SHARE = 4
_FORM = {
    "type": "object",
    "properties": {
        NAME_FIELD: {
            "type": "string",
            "description": f"What the file is called; comes before {FIELD!r}, and counts before"
            " the part's filename, in which browsers write a quotation mark as %22.",
        },
        FIELD: {"type": "string", "format": "binary"},
    },
    "required": [FIELD],
    "additionalProperties": False,
}
_RANGES = (
    Query("Range", {"type": "string"}, "One range of bytes.", header=True),
    Query("If-Range", {"type": "string"}, "The range only of this version.", header=True),
    Query("If-None-Match", {"type": "string"}, "Nothing where it is this version.", header=True),
)


class FileApi:
    """Answers uploads and downloads.

    Args:
        files: The files.
        visitors: Who asks.
        limits: What is taken.
        timing: What is waited for.
    """

    def __init__(self, files: Files, visitors: Visitors, limits: Limits, timing: Timing) -> None:
        self._files = files
        self._visitors = visitors
        self._maximum = limits.max_file_bytes
        self._timeout = timing.body_timeout
        self._deadline = timing.upload_timeout
        self._by_address = Shares("uploads from one address", max(1, limits.uploads // _SHARE))

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        request_id = Query("request_id", REQUEST_ID, "Makes it safe to send again.")
        signed = (
            Query("expires", {"type": "string"}, "As the address was given."),
            Query("signature", {"type": "string"}, "As the address was given."),
        )
        return [
            Operation("POST", "/apps/{app}/v1/files", "uploadFile",
                      "Upload a file; it is durable when this answers.",
                      self.upload, 201, pb.UploadFileResponse, form=_FORM, query=(request_id,),
                      errors=(409,)),
            Operation("GET", "/apps/{app}/v1/files/{file_id}", "getFile",
                      "What is known of a file, with a new address.",
                      self.describe, answer=pb.GetFileResponse),
            Operation("DELETE", "/apps/{app}/v1/files/{file_id}", "deleteFile",
                      "Remove a file that nothing uses yet; 404 where something does.",
                      self.discard, 204),
            Operation("GET", "/files/{file_id}/{name}", "getFileContent",
                      "A file's bytes, by its signed address.", self.serve, media="*/*",
                      query=(*signed, *_RANGES), errors=(403, 416), also=(206, 304),
                      signed_in=False),
        ]  # fmt: skip

    async def upload(self, request: Request) -> Response:
        """Take a file."""
        visitor = await self._visitors.visitor(request)
        form = FileForm(request, self._timeout, self._deadline)
        address = network_of(request.client.host if request.client else "")
        try:
            with self._by_address.one(address):
                file = await self._take(request, visitor, form)
        except ClientDisconnect:
            raise
        except Exception:
            # Whoever is still sending reads what is wrong when it is through.
            await form.drop(self._maximum)
            raise
        answer = pb.UploadFileResponse(file=self._files.addresses.file(file))
        where = f"/apps/{visitor.caller.app}/v1/files/{file.file_id}"
        return JSON(to_json(answer), 201, {"location": where})

    async def _take(self, request: Request, visitor: Visitor, form: FileForm) -> File:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            self._files.check_size(int(announced[:15]) - AROUND)
        await form.open()
        person = Person(visitor.app, visitor.caller.app, visitor.caller.identity)
        upload = Upload(
            request_id_of(request.query_params.get("request_id", "")),
            form.filename or "", form.content_type,
        )  # fmt: skip
        return await self._files.upload_of_person(person, visitor.caller, upload, form.chunks())

    async def describe(self, request: Request) -> Response:
        """Tell what is known of a file."""
        visitor = await self._visitors.visitor(request)
        person = Person(visitor.app, visitor.caller.app, visitor.caller.identity)
        file = await self._files.of_person(person, request.path_params["file_id"])
        return JSON(to_json(pb.GetFileResponse(file=self._files.addresses.file(file))))

    async def discard(self, request: Request) -> Response:
        """Remove a file that nothing uses."""
        visitor = await self._visitors.visitor(request)
        person = Person(visitor.app, visitor.caller.app, visitor.caller.identity)
        await self._files.discard(person, request.path_params["file_id"])
        return Response(status_code=204)

    async def serve(self, request: Request) -> FileResponse:
        """Send a file's bytes; who has its address may have them."""
        query = request.query_params
        # The name is a browser's: what is served, and as what, is told by the id alone.
        file, seconds = await self._files.signed(
            request.path_params["file_id"], query.get("expires", ""), query.get("signature", "")
        )
        network = network_of(request.client.host if request.client else "") or "local"
        return FileResponse(request, file, partial(self._read, network, file), seconds)

    async def _read(self, network: str, file: File, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a file's bytes, in a place that is held as long as somebody reads them."""
        with self._files.sending(network):
            async with aclosing(self._files.read(file, start, end)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
                    del piece  # while its reader reads it, only one is held

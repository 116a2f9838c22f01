"""How many streams an invocation may have open."""

from __future__ import annotations

from pathlib import Path

import grpc

from capsule_protocol.v1 import session_service_pb2
from capsule_sidecar.config import Limits
from tests.support.sidecar import BareHandler, Person, refused, request_id, running_sidecar


async def test_an_invocation_that_opens_streams_without_end_is_refused(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, limits=Limits(open_streams=3)) as running:
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "go")
            work = await handler.work()

            def opening() -> session_service_pb2.OpenStreamRequest:
                return session_service_pb2.OpenStreamRequest(
                    invocation_id=work.invocation_id,
                    attempt=work.attempt,
                    request_id=request_id(),
                )

            for _ in range(3):
                await handler.sessions.OpenStream(opening(), metadata=handler.metadata)
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED") as refusal:
                await handler.sessions.OpenStream(opening(), metadata=handler.metadata)
            assert refusal.metadata == {"limit": "open_streams", "maximum": "3"}

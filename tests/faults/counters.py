"""Callers that count in the app's scope outside of any turn, on bare stubs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc

from capsule_protocol.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    state_service_pb2,
    state_service_pb2_grpc,
)
from tests.faults.counting import Figures, times
from tests.faults.people import OPTIONS
from tests.support.sidecar import Running, refusal_of, request_id

_APP = state_service_pb2.SCOPE_APP
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
# As many increments to a key as 400 digits of one have room.
_SLOTS = 600
_PAUSE = 0.01  # seconds, on average


class Counter:
    """Counts while it is entered: each request is sent until it is answered, or given up at once.

    Args:
        running: The sidecar.
        name: Its name.
        seed: What its chances come from.
    """

    def __init__(self, running: Running, name: str, seed: str) -> None:
        self.name = name
        self.retries = self.repeated = self.given_up = 0
        self._choice = random.Random(f"{seed}/{name}")
        self._metadata = running.metadata()
        self._channel = grpc.aio.insecure_channel(running.address, options=OPTIONS)
        self._state: Any = state_service_pb2_grpc.StateServiceStub(self._channel)
        self._documents: Any = collection_service_pb2_grpc.CollectionServiceStub(self._channel)
        # By number, whether it was acknowledged; by mark as well.
        self._added: list[bool] = []
        self._pushed: dict[str, bool] = {}
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._count())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def finish(self) -> None:
        """Counts no more; returns when what was sent is answered."""
        self._stopping = True
        await asyncio.wait_for(self._task, 60)

    async def check(self, figures: Figures) -> None:
        """Compares what is there with what was acknowledged."""
        for first in range(0, len(self._added), _SLOTS):
            total = int((await self._value(self._key(first))) or b"0")
            for number, acknowledged in enumerate(self._added[first : first + _SLOTS]):
                done = times(total, 4**number)
                what = f"increment {first + number} of {self.name}"
                figures.increment(what, done, acknowledged=acknowledged)
        found = await self._document()
        seen = {mark for mark, was_seen in self._pushed.items() if was_seen}
        figures.pushed(found.get("n", 0), found.get("marks", []), {*self._pushed}, seen)

    async def _count(self) -> None:
        while not self._stopping:
            if self._choice.random() < 0.5:
                await self._add()
            else:
                await self._push()
            await asyncio.sleep(self._choice.uniform(0, 2 * _PAUSE))

    async def _add(self) -> None:
        number = len(self._added)
        self._added.append(False)
        request = state_service_pb2.IncrementValueRequest(
            request_id=request_id(),
            scope=_APP,
            key=self._key(number),
            by_json=str(4 ** (number % _SLOTS)).encode(),
        )
        self._added[number] = await self._send(self._state.IncrementValue, request)

    async def _push(self) -> None:
        mark = f"{self.name}/{len(self._pushed)}"
        self._pushed[mark] = False
        request = collection_service_pb2.UpdateRequest(
            request_id=request_id(),
            collection=collection_service_pb2.Collection(name="tally_app", scope=_APP),
            filter_json=json.dumps({"id": self.name}).encode(),
            update_json=json.dumps({"$inc": {"n": 1}, "$push": {"marks": mark}}).encode(),
            upsert=True,
        )
        self._pushed[mark] = await self._send(self._documents.Update, request)

    async def _send(self, call: Callable[..., Awaitable[Any]], request: Any) -> bool:
        """Sends until it is answered, with the same id; tells whether it was."""
        patient = self._choice.random() < 0.95
        # Whoever gives up does not know whether it was done.
        timeout = 10.0 if patient else self._choice.uniform(0.0005, 0.004)
        while True:
            try:
                answer = await call(request, metadata=self._metadata, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                _may_pass(error)
                if not patient:
                    self.given_up += 1
                    return False
                self.retries += 1
                await asyncio.sleep(0.05)  # a client's pause between two tries
                continue
            if patient and self._choice.random() < 0.2:  # as a client that missed the answer
                self.repeated += 1
                again = await self._surely(call, request)
                assert again == answer, f"answered {answer} first and then {again}"
            return True

    async def _surely(self, call: Callable[..., Awaitable[Any]], request: Any) -> Any:
        while True:
            try:
                return await call(request, metadata=self._metadata, timeout=10.0)
            except grpc.aio.AioRpcError as error:
                _may_pass(error)
                self.retries += 1
                await asyncio.sleep(0.05)  # a client's pause between two tries

    def _key(self, number: int) -> str:
        return f"{self.name}-{number // _SLOTS}"

    async def _value(self, key: str) -> bytes:
        request = state_service_pb2.GetValueRequest(scope=_APP, key=key)
        found = await self._surely(self._state.GetValue, request)
        value: bytes = found.value_json
        return value

    async def _document(self) -> dict[str, Any]:
        request = collection_service_pb2.FindRequest(
            collection=collection_service_pb2.Collection(name="tally_app", scope=_APP),
            filter_json=json.dumps({"id": self.name}).encode(),
        )
        documents = [
            json.loads(each)
            async for batch in self._documents.Find(request, metadata=self._metadata, timeout=30.0)
            for each in batch.documents_json
        ]
        return documents[0] if documents else {}


def _may_pass(error: grpc.aio.AioRpcError) -> None:
    if error.code() not in _AGAIN:
        raise AssertionError(f"refused: {refusal_of(error)}") from error

"""A thread that beats for a loop that does not."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from capsule_client import _channel
from capsule_client._leases import Leases
from capsule_client._settings import Address
from capsule_protocol.v1.handler_service_pb2 import BeatRequest, BeatResponse

if TYPE_CHECKING:
    from types import FrameType

_log = logging.getLogger("capsule")

_LOOKS = 6  # at the loop, in one beat's interval
_CALL_TIMEOUT = 2.0
_JOIN_TIMEOUT = 0.5  # after the thread said that it ends
_FRAMES = 12  # of the stack that a log shows


class Watchdog:
    """Looks at the event loop from outside.

    When the loop has not answered for one beat's interval, a handler blocks it: the thread renews
    the leases by unary `Beat` calls as long as that lasts, and logs where the loop stands.
    """

    def __init__(
        self,
        leases: Leases,
        address: Address,
        process_id: str,
        metadata: Callable[[], tuple[tuple[str, str], ...] | None],
    ) -> None:
        self._leases = leases
        self._address = address
        self._process_id = process_id
        self._metadata = metadata
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._ended = self._loop.create_future()
        self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="capsule-watchdog", daemon=True)

    async def __aenter__(self) -> Watchdog:
        self._thread.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.wait({self._ended}, timeout=_CALL_TIMEOUT + 1)
            self._thread.join(_JOIN_TIMEOUT)

    def _watch(self) -> None:
        channel: grpc.Channel | None = None
        beaten = reported = 0.0
        looked = self._answered
        try:
            while not self._stop.wait(look := self._leases.beat_interval / _LOOKS):
                now = time.monotonic()
                frozen = now - looked > 4 * look  # this thread too: nobody blocks, we were stopped
                looked = now
                if frozen:
                    self._answered = now
                self._loop.call_soon_threadsafe(self._answer)
                blocked = now - self._answered
                if blocked < self._leases.beat_interval:
                    reported = 0.0
                    continue
                if reported == 0.0:
                    self._report(blocked)
                    reported = now
                if now - beaten >= self._leases.beat_interval:
                    beaten = now
                    if channel is None:
                        channel = _channel.open_sync_channel(self._address)
                    self._beat(channel)
                    looked = time.monotonic()
        except RuntimeError:
            pass  # the loop is closed: nothing is left to watch
        finally:
            if channel is not None:
                channel.close()
            try:
                self._loop.call_soon_threadsafe(self._end)
            except RuntimeError:
                pass  # as above

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _beat(self, channel: grpc.Channel) -> None:
        metadata = self._metadata()
        if metadata is None or not self._leases.hold():
            return
        beat = channel.unary_unary(
            _channel.BEAT,
            request_serializer=BeatRequest.SerializeToString,
            response_deserializer=BeatResponse.FromString,
        )
        sent = self._leases.now()
        try:
            beat(BeatRequest(process_id=self._process_id), _CALL_TIMEOUT, metadata)
        except grpc.RpcError as error:
            _log.warning("could not beat for a blocked event loop: %s", error)
        else:
            self._leases.answered(sent)

    def _report(self, blocked: float) -> None:
        frame: FrameType | None = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread's stack
        stack = "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame else "(no stack)\n"
        _log.warning(
            "a handler has blocked the event loop for %.1f s; no other handler runs meanwhile. "
            "Use async calls, or asyncio.to_thread. It stands here:\n%s",
            blocked,
            stack,
        )

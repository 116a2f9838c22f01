"""Questions to a person, and the handlers that wait for the answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import timedelta

from capsule_client import _convert
from capsule_client._durations import duration_of
from capsule_client._files import TurnFiles
from capsule_client._outbox import Outbox
from capsule_client._requests import address, refusal
from capsule_client._turn import Turn
from capsule_client.errors import (
    ApprovalTimeout,
    CapsuleError,
    ChoiceTimeout,
    FileUploadTimeout,
    Stopped,
)
from capsule_client.types import FileUpload
from capsule_protocol.v1 import types_pb2
from capsule_protocol.v1.handler_service_pb2 import HandlerFrame

_LEAST_TIMEOUT = timedelta(milliseconds=1)
_MOST_TIMEOUT = timedelta(
    days=100 * 365
)  # what can be sent; how long a prompt may wait is a setting


class TurnPrompts:
    """The prompts of one turn.

    The sidecar keeps each prompt and its deadline; here is only who waits for its end. The end may
    come before the answer to the command that asked, more than once, or when nobody waits any more.
    """

    __slots__ = ("_asking", "_early", "_files", "_outbox", "_turn", "_waiting", "_waits")

    def __init__(
        self, turn: Turn, outbox: Outbox, files: TurnFiles, waits: Callable[[Turn], None]
    ) -> None:
        self._turn = turn
        self._outbox = outbox
        self._files = files
        self._waits = waits
        self._asking = 0  # questions whose command is not answered
        self._early: dict[str, types_pb2.Prompt] = {}  # ends that came before that
        self._waiting: dict[asyncio.Future[types_pb2.Prompt], str] = {}

    @property
    def waiting(self) -> bool:
        """Whether the handler waits for a person now."""
        return bool(self._waiting)

    def ended(self, prompt: types_pb2.Prompt) -> None:
        """Takes the end of a prompt."""
        for future, prompt_id in list(self._waiting.items()):
            if prompt_id == prompt.prompt_id:
                del self._waiting[future]
                if not future.done():
                    future.set_result(prompt)
        if self._asking:
            self._early[prompt.prompt_id] = prompt

    async def file(
        self,
        message: str,
        accept: str,
        path: str | os.PathLike[str] | None,
        timeout: str | float | timedelta,
    ) -> FileUpload:
        """Asks for a file; see `Session.prompt_file`."""
        target = None if path is None else os.fspath(path)  # a TypeError before anyone is asked
        frame = HandlerFrame()
        request = frame.command.prompt_file
        try:
            request.message = message
            request.accept = accept
        except (TypeError, ValueError) as error:
            raise refusal(error, message=message, accept=accept) from error
        address(request, self._turn, self._outbox.new_id())
        request.timeout.FromTimedelta(_duration(timeout))
        prompt = await self._end_of(frame)
        _check(prompt, FileUploadTimeout, "no file was uploaded")
        upload = _convert.upload(prompt.file.answer, self._files)
        if target is None:
            return upload
        saved = await upload.download(target)
        return _convert.upload(prompt.file.answer, self._files, saved)

    async def approval(
        self, message: str, approve_label: str, reject_label: str, timeout: str | float | timedelta
    ) -> bool:
        """Asks for yes or no; see `Session.prompt_approval`."""
        frame = HandlerFrame()
        request = frame.command.prompt_approval
        try:
            request.message = message
            request.approve_label = approve_label
            request.reject_label = reject_label
        except (TypeError, ValueError) as error:
            raise refusal(
                error, message=message, approve_label=approve_label, reject_label=reject_label
            ) from error
        address(request, self._turn, self._outbox.new_id())
        request.timeout.FromTimedelta(_duration(timeout))
        prompt = await self._end_of(frame)
        _check(prompt, ApprovalTimeout, "nobody said yes or no")
        return prompt.approval.answer

    async def choice(
        self, message: str, options: Sequence[str], timeout: str | float | timedelta
    ) -> str:
        """Asks for one of several options; see `Session.prompt_choice`."""
        frame = HandlerFrame()
        request = frame.command.prompt_choice
        chosen_from = _options(options)
        try:
            request.message = message
        except (TypeError, ValueError) as error:
            raise refusal(error, message=message) from error
        try:
            request.options.extend(chosen_from)
        except ValueError as error:
            named = {f"options[{index}]": option for index, option in enumerate(chosen_from)}
            raise refusal(error, **named) from error
        address(request, self._turn, self._outbox.new_id())
        request.timeout.FromTimedelta(_duration(timeout))
        prompt = await self._end_of(frame)
        _check(prompt, ChoiceTimeout, "nothing was chosen")
        return prompt.choice.options[prompt.choice.answer]

    async def _end_of(self, frame: HandlerFrame) -> types_pb2.Prompt:
        """Asks, and returns the prompt when it has ended."""
        self._turn.check_begin()
        self._asking += 1
        try:
            result = await self._outbox.call(self._turn, frame)
            prompt: types_pb2.Prompt = getattr(result, result.WhichOneof("result") or "").prompt
            early = self._early.pop(prompt.prompt_id, None)
        finally:
            self._asking -= 1
            if not self._asking:
                self._early.clear()
        if prompt.status != types_pb2.PROMPT_STATUS_OPEN:
            return prompt
        if early is not None:
            return early
        future: asyncio.Future[types_pb2.Prompt] = asyncio.get_running_loop().create_future()
        self._waiting[future] = prompt.prompt_id
        self._waits(self._turn)
        try:
            return await future
        finally:
            self._waiting.pop(future, None)


def _check(prompt: types_pb2.Prompt, kind: type[CapsuleError], what: str) -> None:
    """Raises what a prompt's end means, unless it was answered."""
    status = prompt.status
    if status == types_pb2.PROMPT_STATUS_ANSWERED:
        return
    if status == types_pb2.PROMPT_STATUS_DISMISSED:
        raise kind(f"{what}: the prompt was dismissed", reason="DISMISSED")
    if status == types_pb2.PROMPT_STATUS_EXPIRED:
        raise kind(f"{what} in time", reason="EXPIRED")
    raise Stopped("the prompt was withdrawn", reason="STOPPED")


def _duration(timeout: str | float | timedelta) -> timedelta:
    span = duration_of(timeout, "timeout")
    if not _LEAST_TIMEOUT <= span <= _MOST_TIMEOUT:
        raise ValueError(f"timeout is a finite time of at least 1 ms, not {timeout!r}")
    return span


def _options(options: Sequence[str]) -> list[str]:
    if isinstance(options, str | bytes):
        raise TypeError("options is a list of strings, not one string")
    chosen_from = list(options)
    for index, option in enumerate(chosen_from):
        if not isinstance(option, str):
            raise TypeError(f"options[{index}] is a string, not a {type(option).__qualname__}")
        if not option.strip():
            raise ValueError(f"options[{index}] is empty")
    if not chosen_from:
        raise ValueError("at least one option is offered")
    if len(set(chosen_from)) != len(chosen_from):
        twice = next(one for one in chosen_from if chosen_from.count(one) > 1)
        raise ValueError(f"the option {twice!r} is offered twice")
    return chosen_from

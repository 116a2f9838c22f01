"""Files that wait for the next message, and the upload that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_cards import file_words
from capsule_sidecar.commands.chat_files import FileProblem, LocalFile, look_at, paths_of
from capsule_sidecar.commands.chat_following import Following
from capsule_sidecar.commands.chat_link import ChatError
from capsule_sidecar.commands.chat_words import one_line, safe, size_words


class Tray:
    """What was uploaded and not sent. It is the person's, whatever session is shown."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._files: list[types_pb.File] = []
        self._running: asyncio.Task[types_pb.File] | None = None

    @property
    def file_ids(self) -> list[str]:
        """The files, for a message."""
        return [file.file_id for file in self._files]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [one_line(file.name) for file in self._files]

    def sent(self) -> None:
        """A message has taken them all."""
        self._files.clear()
        self._hint()

    async def attach(self, typed: str) -> None:
        """Uploads what was named, or lists what is there where nothing was.

        Of several files, what is wrong with one is shown and does not stop the others.

        Raises:
            FileProblem: none of the files is there.
            ChatError: the sidecar refuses it, or the upload was stopped.
        """
        screen = self._following.screen
        if not typed:
            for number, file in enumerate(self._files, 1):
                screen.note(f"{number}  {file_words(file)}")
            if not self._files:
                screen.note("nothing is attached; /attach PATH uploads a file")
            return
        for path in paths_of(typed):
            try:
                self._files.append(await self.upload(await _looked_at(path)))
            except FileProblem as problem:
                screen.note(safe(str(problem)), bad=True)
                continue
            screen.note(f"attached {len(self._files)}: {file_words(self._files[-1])}")
            self._hint()
            await self._following.refresh()

    def detach(self, typed: str) -> None:
        """Takes a file away from the next message, by its number.

        Raises:
            ChatError: there is no such number.
        """
        if not typed.isdecimal() or not 1 <= int(typed) <= len(self._files):
            raise ChatError("/detach takes a number of /attach")
        file = self._files.pop(int(typed) - 1)
        self._following.screen.note(f"detached: {file_words(file)}")
        self._hint()

    async def upload_one(self, typed: str, check: Callable[[LocalFile], None]) -> types_pb.File:
        """Uploads one file, for a question. `check` may refuse it first.

        Raises:
            FileProblem: as `attach`; or more than one was named.
            ChatError: as `attach`.
        """
        paths = paths_of(typed)
        if len(paths) > 1:
            raise ChatError("one file is wanted; several were named")
        file = await _looked_at(paths[0])
        check(file)
        return await self.upload(file)

    async def upload(self, file: LocalFile) -> types_pb.File:
        """Uploads a file with a line that says how far it is.

        Raises:
            FileProblem: it cannot be read any more, or is too large.
            ChatError: the sidecar refuses it, or `stop` was called.
        """
        screen = self._following.screen
        name, size = one_line(file.name), size_words(file.size)

        def progress(sent: int) -> None:
            percent = 100 * sent // file.size if file.size else 100
            screen.hint("upload", f"uploading {name}: {percent}% of {size}; Ctrl-C stops it")

        progress(0)
        task = asyncio.create_task(self._following.link.upload(file, progress))
        self._running = task
        try:
            return await task
        except ChatError as error:
            maximum = error.metadata.get("maximum", "")
            if error.metadata.get("limit") != "max_file_bytes" or not maximum.isdecimal():
                raise
            raise FileProblem(_too_large(name, file.size, int(maximum))) from error
        except asyncio.CancelledError:
            us = asyncio.current_task()
            if us is not None and us.cancelling():
                raise
            raise ChatError(f"the upload of {name} was stopped") from None
        finally:
            self._running = None
            screen.hint("upload", "")

    def stop(self) -> bool:
        """Stops the upload that runs; False where none does."""
        return self._running is not None and self._running.cancel()

    def _hint(self) -> None:
        names = ", ".join(self.names)
        text = f"attached: {names}; goes with the next message, or /send" if names else ""
        self._following.screen.hint("attached", text)


def _too_large(name: str, size: int, maximum: int) -> str:
    has, may = size_words(size), size_words(maximum)
    if has == may:  # the words round what the bytes tell apart
        has, may = f"{size} bytes", f"{maximum} bytes"
    return f"{name} is too large: it has {has}, and a file may have {may}"


async def _looked_at(path: Path) -> LocalFile:
    return await asyncio.to_thread(look_at, path)

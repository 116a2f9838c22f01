"""Followers that come at an awkward moment: while text is held back, while a session goes."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_sidecar.runtime import followers
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import Follow, Person, running_sidecar
from tests.support.turns import turn


async def test_who_joins_while_text_is_held_behind_a_command_misses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    """A delta waits until the replies sent before it are in the log; joiners come meanwhile."""
    async with turn(tmp_path) as desk, AsyncExitStack() as stack:
        stream = await desk.open()
        joined: list[Follow] = []
        text, replies = "", 0
        for number in range(120):
            await desk.send("reply", text=f"reply {number}")
            replies += 1
            if number % 10 == 9:
                cut = len(text) - 3
                text = text[:cut] + "again "
                await desk.delta(stream, "again ", position=cut, replace=True)
            else:
                text += f"{number} "
                await desk.delta(stream, f"{number} ")
            if number % 3 == 0:
                follow = await desk.person.follow(desk.session, live=False)
                joined.append(await stack.enter_async_context(follow))
        for follow in joined:  # before the message takes the text's place
            await _shows(follow, stream, text)
        closed = await desk.close(stream, text)
        assert closed.message.text == text
        await desk.finish()
        for follow in joined:
            await follow.sees("invocation_ended", 2, timeout=30)
            # The fold asserts that every delta joins on and comes behind its event.
            seen = Fold().read(follow.frames)
            assert seen.ordered() == ["hello", text, *(f"reply {n}" for n in range(replies))]


async def _shows(follow: Follow, stream: str, text: str) -> None:
    def shown() -> bool:
        open_text = Fold().read(follow.frames).streams.get(stream)
        return open_text is not None and open_text.text == text

    await eventually(shown, timeout=15, interval=0.05)


async def test_a_session_that_is_deleted_while_a_follower_begins_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, deleted = threading.Event(), threading.Event()
    look: Any = followers._session_and_lowest

    def slowly(*given: Any) -> Any:
        answer = look(*given)
        found.set()
        assert deleted.wait(15)
        return answer

    monkeypatch.setattr(followers, "_session_and_lowest", slowly)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        async with await ada.follow(session, live=False) as follow:
            await eventually(found.is_set, timeout=15)
            await ada.call("DeleteSession", session_id=session)
            deleted.set()
            await eventually(lambda: follow.error, timeout=15)
            assert follow.error is not None
            assert follow.error.code() == grpc.StatusCode.NOT_FOUND

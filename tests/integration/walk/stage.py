"""What every step of the walk stands on: an app of the Python client, and who talks to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import capsule_client as capsule
from capsule_client import testing
from capsule_client.testing._sidecar import Sidecar
from capsule_protocol.v1 import events_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.files import Mover
from tests.support.sidecar import Follow, Person, Running
from tests.support.work import ended

Do = Callable[[capsule.Session, capsule.Message], Awaitable[Any]]
F = TypeVar("F", bound=Callable[..., Any])

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50
WAIT = 30.0  # seconds that anything here may take, the start of a process among it


def walks(*names: str) -> Callable[[F], F]:
    """Says which names of the session's document a test exercises; see `names.py`."""

    def mark(function: F) -> F:
        function.walks = names  # type: ignore[attr-defined]  # a mark, read by test_names.py
        return function

    return mark


def app_of(sidecar: Running, name: str = "", **options: Any) -> capsule.App:
    """Returns an app that attaches to this sidecar, by a name of its own unless one is given."""
    own = f"walk-{secrets.token_hex(6)}"
    return capsule.App(name or own, address=sidecar.address, token=sidecar.token, **options)


def doing(app: capsule.App, do: Do) -> asyncio.Queue[Any]:
    """Has the app do this on every message; returns the queue of what comes of it."""
    results: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.put_nowait(await do(session, msg))
        except BaseException as error:
            results.put_nowait(error)
            raise

    return results


@dataclass
class Serving(Running):
    """A sidecar of the test kit that serves."""

    process: Sidecar | None = None


def kit_of(sidecar: Serving, app: capsule.App) -> AbstractAsyncContextManager[testing.Kit]:
    """Attaches an app by the test kit: its users say, hear, answer and wait."""
    return testing.run(app, timeout=WAIT, sidecar=sidecar.process)


class Stage:
    """A person in a session of an app, and what becomes of what they say."""

    def __init__(
        self, sidecar: Running, app: str, person: Person, session: str, results: asyncio.Queue[Any]
    ) -> None:
        self.sidecar = sidecar
        self.app = app
        self.person = person
        self.session = session
        self.results = results

    async def says(self, text: str = "go", **fields: Any) -> str:
        """Sends a message; returns its turn's id."""
        sent = await self.person.say(self.session, text, **fields)
        return str(sent.invocation_id)

    async def result(self) -> Any:
        """Returns what the next turn gives; raises what it raises."""
        async with asyncio.timeout(WAIT):
            result = await self.results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    async def gives(self, text: str = "go", **fields: Any) -> Any:
        """Sends a message; returns what its turn gives, raises what it raises."""
        await self.says(text, **fields)
        return await self.result()

    async def follow(self) -> Follow:
        """Follows the session from its beginning; `async with` ends it."""
        return await self.person.follow(self.session)

    async def end_of(self, invocation_id: str) -> events_pb2.InvocationEnded:
        """Waits for the end of a turn."""
        async with await self.follow() as follow:
            return await ended(follow, invocation_id, timeout=WAIT)

    async def stop(self, invocation_id: str) -> None:
        """Presses Stop."""
        await self.person.call(
            "StopInvocation", session_id=self.session, invocation_id=invocation_id
        )

    async def messages(self) -> list[types_pb2.Message]:
        """Returns the messages that the session shows."""
        return await self._items("message")

    async def said(self) -> list[str]:
        """Returns the texts that the app has said."""
        shown = await self.messages()
        return [one.text for one in shown if one.sender == types_pb2.SENDER_APP]

    async def blocks(self) -> list[types_pb2.Block]:
        """Returns the blocks that the session shows."""
        return await self._items("block")

    async def prompts(self) -> list[types_pb2.Prompt]:
        """Returns the prompts that the session shows."""
        return await self._items("prompt")

    async def asked(self, count: int = 1) -> types_pb2.Prompt:
        """Waits for the prompt number `count`."""

        async def found() -> list[types_pb2.Prompt]:
            shown = await self.prompts()
            return shown if len(shown) >= count else []

        return (await eventually(found, timeout=WAIT, message=f"prompt {count}"))[count - 1]

    async def answers(self, prompt: types_pb2.Prompt, **given: Any) -> bool:
        """Answers a prompt; says whether it was the first answer."""
        answered = await self.person.call("AnswerPrompt", prompt_id=prompt.prompt_id, **given)
        return bool(answered.accepted)

    async def uploads(
        self, data: bytes, name: str = "notes.txt", content_type: str = "text/plain"
    ) -> str:
        """Uploads a file; returns its id."""
        return (await Mover(self.person).up(data, name, content_type)).file_id

    async def downloads(self, file_id: str) -> bytes:
        """Returns the bytes of a file that the person may see."""
        return await Mover(self.person).down(file_id)

    async def _items(self, kind: str) -> list[Any]:
        items = await self.person.timeline(self.session)
        return [getattr(item, kind) for item in items if item.WhichOneof("item") == kind]


@asynccontextmanager
async def talking(
    sidecar: Running,
    app: capsule.App,
    results: asyncio.Queue[Any] | None = None,
    identity: str = "terminal:ada",
) -> AsyncIterator[Stage]:
    """A person in a new session of an app, which this does not attach."""
    async with Person(sidecar, identity, app.name) as person:
        session = await person.open()
        yield Stage(sidecar, app.name, person, session, results or asyncio.Queue(maxsize=1))


@asynccontextmanager
async def stage(
    sidecar: Running,
    do: Do,
    prepare: Callable[[capsule.App], object] | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """Attaches an app that does this on every message, and opens a session with it."""
    app = app_of(sidecar, **options)
    results = doing(app, do)
    if prepare is not None:
        prepare(app)
    async with app.attached(), talking(sidecar, app, results) as step:
        yield step


async def turn(
    sidecar: Running,
    do: Do,
    prepare: Callable[[capsule.App], object] | None = None,
    text: str = "go",
) -> Any:
    """Runs one turn; returns what it gives, raises what it raises."""
    async with stage(sidecar, do, prepare) as step:
        return await step.gives(text)


@asynccontextmanager
async def delivered_twice(sidecar: Running, do: Do) -> AsyncIterator[Stage]:
    """Runs one turn in two attempts: the first does what it does, hangs, and its process leaves.

    The block begins when the second has ended; `result` gives what the two gave, in order.
    """
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    done = asyncio.Event()

    async def hang(session: capsule.Session, msg: capsule.Message) -> None:
        results.put_nowait(await do(session, msg))
        done.set()
        await asyncio.Event().wait()

    results: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)
    first.message()(hang)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            turn_id = await step.says()
            await asyncio.wait_for(done.wait(), WAIT)
        again = doing(second, do)
        async with second.attached():
            end = await step.end_of(turn_id)
        assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED, end
        results.put_nowait(again.get_nowait())
        yield step

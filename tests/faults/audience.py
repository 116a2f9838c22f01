"""Everybody at once: people and followers of both kinds, whose lines a test then breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Self

from tests.faults.checker import Figures, check
from tests.faults.followers import Follower, Following
from tests.faults.people import Conversation, Talk
from tests.faults.processes import Handlers
from tests.faults.sse import EventFollower
from tests.faults.visitors import VisitorTalk
from tests.support.eventually import eventually
from tests.support.sidecar import Running

_WISHES = ("stream", "stream", "stream", "reply", "notify", "block")


class Audience:
    """People who talk, and for each two followers of the same kind; over gRPC one of the channel.

    Args:
        through: The sidecar, or the addresses of what stands before it.
        seed: Of what they say.
        visitors: How many come by HTTP.
        others: How many talk by gRPC.
        patience: Seconds of silence after which requests and lines are given up; None: never.
    """

    def __init__(
        self,
        through: Running,
        seed: str,
        *,
        visitors: int,
        others: int = 0,
        patience: float | None = None,
    ) -> None:
        self._stack = AsyncExitStack()
        self._through = through
        self._patience = patience
        self.visitors = [
            VisitorTalk(through, f"v{n}", seed, wishes=_WISHES, patience=patience or 20.0)
            for n in range(visitors)
        ]
        self.others = [Talk(through, f"p{n}", seed, wishes=_WISHES) for n in range(others)]
        # By session; empty: of the whole channel.
        self.followers: dict[str, list[Following]] = {}
        # Who reads Server-Sent Events.
        self.readers: list[EventFollower] = []

    @property
    def talks(self) -> Sequence[Conversation]:
        """All who talk."""
        return [*self.visitors, *self.others]

    @property
    def following(self) -> list[Following]:
        """All who follow."""
        return [follower for found in self.followers.values() for follower in found]

    @property
    def streams(self) -> int:
        """How many open streams there are in the sight of those who follow one session."""
        return sum(len(found[0].fold.streams) for key, found in self.followers.items() if key)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for talk in self.talks:
                await stack.enter_async_context(talk)
            await eventually(
                lambda: all(talk.session_id for talk in self.talks),
                timeout=30, message="every session is open",
            )  # fmt: skip
            for visitor in self.visitors:
                self.followers[visitor.session_id] = [
                    await self._reads(stack, visitor, visitor.session_id),
                    await self._reads(stack, visitor, ""),
                ]
            for other in self.others:
                self.followers[other.session_id] = [
                    await stack.enter_async_context(
                        Follower(
                            self._through, other.person.identity, other.session_id, self._patience
                        )
                    )
                    for _ in range(2)
                ]
            # The channel of the chat page can be followed as any other one.
            for channel, talks in (("chat", self.visitors), ("terminal", self.others)):
                if talks:
                    whole = Follower(self._through, f"{channel}:all", "", self._patience)
                    self.followers.setdefault("", []).append(await stack.enter_async_context(whole))
            self._stack = stack.pop_all()
        return self

    async def _reads(
        self, stack: AsyncExitStack, visitor: VisitorTalk, session_id: str
    ) -> EventFollower:
        reader = EventFollower(visitor.person, session_id, self._patience)
        self.readers.append(reader)
        return await stack.enter_async_context(reader)

    async def __aexit__(self, *error: object) -> None:
        await self._stack.__aexit__(*error)  # type: ignore[arg-type]  # passed on as they came

    async def quiet(self) -> None:
        """Lets nobody say more, and waits until every turn has ended."""
        await asyncio.gather(*(talk.finish() for talk in self.talks))

    async def agree(self, handlers: Handlers) -> tuple[Figures, int]:
        """Checks that nothing is missing or doubled, and that every follower has seen it so.

        Returns:
            What was checked, and how many texts became their message while somebody looked on.
        """
        await self.quiet()
        assert not handlers.surprises()
        figures = await check(self.talks, handlers.notes())
        compared = 0
        for talk in self.talks:
            log = await talk.person.log(talk.session_id)
            positions = [event.position for event in log]
            items = await talk.person.items(talk.session_id)
            texts = [i.message.text for i in items if i.WhichOneof("item") == "message"]
            channels = self.followers[""]
            own = channels[0] if isinstance(talk, VisitorTalk) else channels[-1]
            for follower in [*self.followers[talk.session_id], own]:
                await follower.reaches(len(log) if follower.session_id else positions[-1])
                fold = follower.of(talk.session_id)
                assert fold.seen == positions, f"{talk.name}: {fold.seen} of {positions}"
                assert fold.ordered() == texts
                assert fold.streams == {}
                compared += fold.compared
        return figures, compared

    def losses(self) -> str:
        """Returns how lines ended and requests failed."""
        ends = _sum(reader.ends for reader in self.readers)
        failures = _sum(visitor.person.failures for visitor in self.visitors)
        retries = sum(other.person.retries for other in self.others)
        lines = sum(follower.lines - 1 for follower in self.following)
        return (
            f"{lines} lines opened again; of those by HTTP ended {dict(ends)}; requests sent again"
            f" by HTTP {dict(+failures)}, by gRPC {retries}"
        )


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total += counter
    return total

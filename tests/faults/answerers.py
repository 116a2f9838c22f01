"""People who are asked back: they think for a while, answer, dismiss or say nothing."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Self

from capsule_protocol.v1 import channel_service_pb2, types_pb2
from tests.faults.people import Talk
from tests.support.eventually import eventually
from tests.support.sidecar import request_id


@dataclass
class Answering(Talk):
    """A conversation whose person answers what the app asks.

    Attributes:
        thinks: Seconds that they think at the most.
        silent: How many in a hundred prompts they leave alone; those are to expire.
    """

    thinks: float = 0.5
    silent: int = 0

    async def __aenter__(self) -> Self:
        self._answered: set[str] = set()
        self._mind = random.Random(f"{self.seed}/{self.name} answers")
        self._answerer = asyncio.create_task(self._answer_always())
        return await super().__aenter__()

    def forgives(self) -> None:
        """Leaves nothing alone any more, nor what was left alone before."""
        self.silent = 0
        self._answered.clear()

    async def finish(self) -> None:
        """Sends no more and answers on; returns when every turn has ended."""
        await super().finish()
        self._answerer.cancel()
        await asyncio.gather(self._answerer, return_exceptions=True)

    async def _leave(self) -> None:
        self._answerer.cancel()
        await asyncio.gather(self._answerer, return_exceptions=True)
        await super()._leave()

    async def _idle(self) -> bool:
        if self._answerer.done():
            self._answerer.result()  # raises what an answer was refused by
        return await super()._idle()

    async def open(self) -> list[types_pb2.Prompt]:
        """Returns the session's open prompts, of its newest items."""
        page = await self.person.surely("GetTimeline", session_id=self.session_id, page_size=50)
        assert isinstance(page, channel_service_pb2.GetTimelineResponse)
        prompts = [item.prompt for item in page.items if item.WhichOneof("item") == "prompt"]
        return [prompt for prompt in prompts if prompt.status == types_pb2.PROMPT_STATUS_OPEN]

    async def _answer_always(self) -> None:
        while True:
            await asyncio.sleep(0.1)  # how often a person looks
            if not self.session_id:
                continue
            for prompt in await self.open():
                if prompt.prompt_id not in self._answered:
                    self._answered.add(prompt.prompt_id)
                    if self._mind.randrange(100) >= self.silent:
                        await asyncio.sleep(self._mind.uniform(0, self.thinks))
                        await self._give(prompt)

    async def _give(self, prompt: types_pb2.Prompt) -> None:
        """Answers: one time in four from two devices at once, one in four the same again."""
        how = self._mind.randrange(4)
        count = 2 if how == 0 else 1
        self.answers += await asyncio.gather(
            *(self.answer(prompt, self._some_answer(prompt), request_id()) for _ in range(count))
        )
        if how == 1:
            given, request = self._some_answer(prompt), request_id()
            first = await self.answer(prompt, given, request)
            assert await self.answer(prompt, given, request) == first
            self.answers.append(first)

    def _some_answer(self, prompt: types_pb2.Prompt) -> dict[str, Any]:
        if self._mind.random() < 0.15:
            return {"dismissed": True}
        if prompt.WhichOneof("kind") == "choice":
            return {"option": self._mind.randrange(len(prompt.choice.options))}
        return {"approved": self._mind.random() < 0.5}

    async def answer(
        self, prompt: types_pb2.Prompt, given: dict[str, Any], request: str
    ) -> channel_service_pb2.AnswerPromptResponse:
        """Answers a prompt until that is acknowledged, always with the same request id."""
        answered = await self.person.surely(
            "AnswerPrompt", prompt_id=prompt.prompt_id, request_id=request, **given
        )
        assert isinstance(answered, channel_service_pb2.AnswerPromptResponse)
        return answered


@dataclass
class Waiting(Answering):
    """A conversation of one message, whose turn asks back and is not answered before it is told."""

    async def _talk(self) -> None:
        self.session_id = await self._open()
        await self.ask(f"{self.name}-00000 reply ask reply")

    async def _answer_always(self) -> None:
        """Leaves everything alone."""

    async def asked_back(self) -> types_pb2.Prompt:
        """Waits until the app has asked; returns the prompt."""

        async def asked() -> list[types_pb2.Prompt]:
            return await self.open() if self.session_id else []

        (prompt,) = await eventually(asked, timeout=30, message=f"{self.name} is asked")
        return prompt

    async def answers_at_last(self, **given: Any) -> channel_service_pb2.AnswerPromptResponse:
        """Answers what is open, with yes unless told otherwise."""
        prompt = await self.asked_back()
        answered = await self.answer(prompt, given or {"approved": True}, request_id())
        self.answers.append(answered)
        return answered

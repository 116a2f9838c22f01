"""A handler that asks people, and the people who are asked, on bare stubs.

Every session has a person of its own. A message `ask` is asked back and its turn waits; any other
ends its turn at once, except `hold`, whose turn runs until `let_go`.

arguments: the sidecar's address, the app, the handler's concurrency, then metadata as NAME=VALUE.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter

import grpc

from capsule_protocol.v1 import channel_service_pb2 as channel_pb
from capsule_protocol.v1 import channel_service_pb2_grpc as channel_grpc
from capsule_protocol.v1 import handler_service_pb2 as handler_pb
from capsule_protocol.v1 import handler_service_pb2_grpc as handler_grpc
from capsule_protocol.v1 import session_service_pb2 as session_pb
from tests.bench import worker

BEAT = 3.0
LANES = 64
TIMEOUT = 300.0
QUESTION = "Shall I send the contract to the customer now?"


class Asker:
    """The commands."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        app: str,
        concurrency: int,
        metadata: list[tuple[str, str]],
    ) -> None:
        self._people = channel_grpc.ChannelServiceStub(channel)
        self._metadata = metadata
        self._call = handler_grpc.HandlerServiceStub(channel).Attach(metadata=metadata)
        self._hello = handler_pb.Hello(
            app=app,
            protocol_version="1",
            client_name="bench",
            client_version="1",
            process_id=str(uuid.uuid4()),
            declarations=handler_pb.Declarations(message=True),
            concurrency=concurrency,
        )
        self._out: asyncio.Queue[handler_pb.HandlerFrame] = asyncio.Queue(maxsize=100_000)
        self._done: Counter[str] = Counter()
        self._moved = asyncio.Event()
        self._opened = 0
        self._held: list[handler_pb.Invocation] = []
        self._tag = 0
        self._persons: dict[str, str] = {}
        # By tag and by prompt, who asked; the prompts asked since they were last wanted.
        self._asking: dict[int, handler_pb.Invocation] = {}
        self._prompts: dict[str, handler_pb.Invocation] = {}
        self._newest: list[tuple[str, str]] = []
        self._told: dict[str, float] = {}

    async def attach(self) -> list[asyncio.Task[None]]:
        """Says hello and returns what keeps the line alive."""
        self._out.put_nowait(handler_pb.HandlerFrame(hello=self._hello))
        return [asyncio.create_task(part()) for part in (self._write, self._read, self._beat)]

    async def fill(self, count: int, text: str) -> int:
        """Opens sessions with a message each; returns when the last is asked back, or has ended."""
        kind = "asked" if text == "ask" else "ended"
        before = self._done[kind]
        await self._say_in_new(count, text)
        await self._until(kind, before + count)
        return self._done[kind]

    async def hold(self, count: int, seconds: float) -> int:
        """Sends so many messages; returns how many turns are given out at once, and ends them."""
        before = self._done["ended"]
        await self._say_in_new(count, "hold")
        await asyncio.sleep(seconds)  # whatever has a place was given it by now
        given = len(self._held)
        while self._done["ended"] < before + count:
            held, self._held = self._held, []
            for work in held:
                self._end(work)
            await self._until("ended", self._done["ended"] + len(held))
        return given

    async def answers(self, count: int) -> dict[str, float]:
        """Asks in new sessions and answers one at a time, until the handler is told."""
        self._newest.clear()
        await self.fill(count, "ask")
        taken = worker.Latencies()
        for prompt, session in list(self._newest):
            start = time.perf_counter()
            request = channel_pb.AnswerPromptRequest(
                identity=self._persons[session], prompt_id=prompt, approved=True,
                request_id=str(uuid.uuid4()),
            )  # fmt: skip
            before = self._done["told"]
            await self._people.AnswerPrompt(request, metadata=self._metadata)
            await self._until("told", before + 1)
            taken.add(self._told.pop(prompt) - start)
        return taken.summary()

    async def _say_in_new(self, count: int, text: str) -> None:
        left = count

        async def lane() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                self._opened += 1
                person = f"terminal:bench-{self._opened}"
                opened = await self._people.OpenSession(
                    channel_pb.OpenSessionRequest(request_id=str(uuid.uuid4()), identity=person),
                    metadata=self._metadata,
                )
                self._persons[opened.session.session_id] = person
                await self._people.SendMessage(
                    channel_pb.SendMessageRequest(
                        request_id=str(uuid.uuid4()), identity=person, text=text,
                        session_id=opened.session.session_id,
                    ),
                    metadata=self._metadata,
                )  # fmt: skip

        await asyncio.gather(*(lane() for _ in range(LANES)))

    async def _until(self, kind: str, count: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            while self._done[kind] < count:
                self._moved.clear()
                await self._moved.wait()

    def _note(self, kind: str) -> None:
        self._done[kind] += 1
        self._moved.set()

    def _end(self, work: handler_pb.Invocation) -> None:
        outcome = handler_pb.Outcome(
            invocation_id=work.invocation_id,
            attempt=work.attempt,
            status=handler_pb.OUTCOME_STATUS_COMPLETED,
        )
        self._out.put_nowait(handler_pb.HandlerFrame(outcome=outcome))

    def _ask(self, work: handler_pb.Invocation) -> None:
        self._tag += 1
        self._asking[self._tag] = work
        request = session_pb.PromptApprovalRequest(
            invocation_id=work.invocation_id,
            attempt=work.attempt,
            request_id=str(uuid.uuid4()),
            message=QUESTION,
        )
        request.timeout.FromSeconds(86_400)
        command = handler_pb.Command(tag=self._tag, prompt_approval=request)
        self._out.put_nowait(handler_pb.HandlerFrame(command=command))

    async def _read(self) -> None:
        while response := await worker.next_of(handler_pb.AttachResponse, self._call):
            for frame in response.frames:
                self._take(frame)

    def _take(self, frame: handler_pb.SidecarFrame) -> None:
        match frame.WhichOneof("frame"):
            case "invocation":
                text = frame.invocation.turn.message.text
                if text == "ask":
                    self._ask(frame.invocation)
                elif text == "hold":
                    self._held.append(frame.invocation)
                    self._moved.set()
                else:
                    self._end(frame.invocation)
            case "command_result":
                work = self._asking.pop(frame.command_result.tag)
                prompt = frame.command_result.prompt_approval.prompt.prompt_id
                if not prompt:
                    raise worker.WorkError(f"refused: {frame.command_result.error}")
                self._prompts[prompt] = work
                self._newest.append((prompt, work.session.session_id))
                self._note("asked")
            case "prompt_resolved":
                prompt = frame.prompt_resolved.prompt.prompt_id
                self._told[prompt] = time.perf_counter()
                ack = handler_pb.PromptAck(prompt_id=prompt)
                self._out.put_nowait(handler_pb.HandlerFrame(prompt_ack=ack))
                self._end(self._prompts.pop(prompt))
                self._note("told")
            case "outcome_ack":
                self._note("ended")

    async def _write(self) -> None:
        while True:
            frames = [await self._out.get()]
            while not self._out.empty() and len(frames) < 200:
                frames.append(self._out.get_nowait())
            await self._call.write(handler_pb.AttachRequest(frames=frames))

    async def _beat(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(BEAT)
            number += 1
            self._out.put_nowait(handler_pb.HandlerFrame(beat=handler_pb.Beat(number=number)))


async def main() -> None:
    target, app, concurrency, *pairs = sys.argv[1:]
    async with grpc.aio.insecure_channel(target) as channel:
        asker = Asker(channel, app, int(concurrency), worker.metadata(pairs))
        alive = await asker.attach()
        await worker.serve({"fill": asker.fill, "hold": asker.hold, "answers": asker.answers})
        for task in alive:
            task.cancel()


if __name__ == "__main__":
    worker.run(main)

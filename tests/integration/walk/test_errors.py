"""The errors: each is raised by something, all are `CapsuleError`, and none is gRPC's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, app_of, delivered_twice, stage, turn, walks
from tests.support.eventually import eventually
from tests.support.sidecar import Running

Call = Callable[[capsule.Session], Awaitable[Any]]

NAMES = (
    "FileUploadTimeout", "ApprovalTimeout", "ChoiceTimeout", "NoReplyTarget", "NoSession",
    "Superseded", "Stopped", "NotFound", "InvalidArgument", "PermissionDenied", "Conflict",
    "LimitExceeded", "Unavailable",
)  # fmt: skip


@walks("CapsuleError")
@pytest.mark.parametrize("name", NAMES)
def test_every_error_is_a_capsule_error(name: str) -> None:
    assert issubclass(getattr(capsule, name), capsule.CapsuleError)


@walks("FileUploadTimeout", "ApprovalTimeout", "ChoiceTimeout")
@pytest.mark.parametrize("name", ["FileUploadTimeout", "ApprovalTimeout", "ChoiceTimeout"])
def test_every_timeout_is_a_timeout_error_too(name: str) -> None:
    assert issubclass(getattr(capsule, name), TimeoutError)


def _lost() -> capsule.Attachment:
    return capsule.Attachment("x.png", "image/png", "", 1, "fil_nowhere")


async def _conflict(session: capsule.Session) -> None:
    await session.set("word", "x")
    await session.increment("word")


CALLS: dict[str, tuple[type[Exception], Call]] = {
    "InvalidArgument": (capsule.InvalidArgument, lambda session: session.reply("")),
    "LimitExceeded": (capsule.LimitExceeded, lambda session: session.reply("x" * 2**19)),
    "Conflict": (capsule.Conflict, _conflict),
    "NotFound": (capsule.NotFound, lambda session: session.show_image(_lost())),
}


@walks("InvalidArgument", "LimitExceeded", "Conflict", "NotFound", "__cause__")
@pytest.mark.parametrize("name", CALLS)
async def test_what_the_sidecar_refuses_is_an_error_with_grpcs_as_its_cause(
    sidecar: Running, name: str
) -> None:
    kind, call = CALLS[name]

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await call(session)

    with pytest.raises(kind) as caught:
        await turn(sidecar, do)
    assert not isinstance(caught.value, grpc.RpcError)
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@walks("Superseded")
async def test_a_call_of_an_attempt_that_was_superseded_is_superseded(sidecar: Running) -> None:
    old: list[capsule.Session] = []

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if session.attempt == 1:
            old.append(session)
            return None
        with pytest.raises(capsule.Superseded) as caught:
            await old[0].reply("a zombie")
        return type(caught.value)

    async with delivered_twice(sidecar, do) as step:
        assert [await step.result(), await step.result()] == [None, capsule.Superseded]
        assert await step.said() == []


@walks("Superseded")
async def test_a_call_after_the_end_of_the_turn_is_superseded(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> capsule.Session:
        return session

    async with stage(sidecar, do) as step:
        turn_id = await step.says()
        session = await step.result()
        await step.end_of(turn_id)
        with pytest.raises(capsule.Superseded):
            await session.reply("late")


@walks("Stopped")
async def test_what_a_stopped_turn_begins_is_stopped(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(capsule.Stopped):
                await session.prompt_choice("Which?", ["a"])
            await session.reply("put away")  # text may still be written
            raise

    begun = asyncio.Event()
    async with stage(sidecar, do) as step:
        turn_id = await step.says()
        await asyncio.wait_for(begun.wait(), WAIT)
        await step.stop(turn_id)
        with pytest.raises(asyncio.CancelledError):
            await step.result()
        await eventually(step.said, timeout=WAIT)


@walks("PermissionDenied")
async def test_an_app_with_an_unknown_token_is_denied(sidecar: Running) -> None:
    app = capsule.App(app_of(sidecar).name, address=sidecar.address, token="unknown")
    with pytest.raises(capsule.PermissionDenied) as caught:
        async with app.attached():
            pass
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@walks("Unavailable")
async def test_what_needs_a_line_is_unavailable_without_one(sidecar: Running) -> None:
    shop = app_of(sidecar).collection("shop")
    with pytest.raises(capsule.Unavailable):
        await shop.count()


@walks("NoSession")
async def test_what_is_a_sessions_is_no_session_for_a_request(sidecar: Running) -> None:
    app = app_of(sidecar)
    app.collection("drafts", scope="session")
    raised: list[BaseException] = []

    @app.data("drafts")
    async def drafts(ctx: capsule.RequestContext) -> None:
        try:
            await ctx.db.drafts.count()
        except capsule.NoSession as error:
            raised.append(error)

    async with app.attached(), httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"{sidecar.http}/apps/{app.name}/data/drafts")
    assert len(raised) == 1

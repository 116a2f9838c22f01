"""Blocks: checked where their type is known, changed in place, clicked in their session's lane."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsule_protocol.v1 import channel_service_pb2, handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import BareHandler, Person, Refusal, SidecarProcess, running_sidecar
from tests.support.turns import turn, turn_on
from tests.support.work import EVERYTHING, acknowledged, beaten, works

FILE = "fil_01jd5w3k8q9zx4m2n7c6v5b4t3"
FORMS = ["unary", "command"]


def block(kind: str, payload: object, block_id: str = "") -> types_pb2.Block:
    return types_pb2.Block(type=kind, payload_json=json.dumps(payload).encode(), block_id=block_id)


def blocks_of(items: list[channel_service_pb2.TimelineItem]) -> list[types_pb2.Block]:
    return [item.block for item in items if item.WhichOneof("item") == "block"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (block("step", {"label": "Reading", "status": "done"}), "block.payload.status"),
        (block("step", {"label": "Reading"}), "block.payload.status"),
        (
            block("suggestions", {"items": ["a", "b", {"label": 7}]}),
            "block.payload.items[2].label",
        ),
        (block("image", {"src": "https://pictures.example/cat.png"}), "block.payload.src"),
        (block("image", {"file_id": FILE, "url": "/files/x"}), "block.payload.url"),
        (block("image", {"file_id": FILE, "src": "/files/x"}), "block.payload"),
        (types_pb2.Block(type="step"), "block.payload.label"),
        # The sidecar alone shows tasks, whatever the block carries.
        (block("task", {"task_id": "tsk_1", "name": "sync", "status": "running"}), "block.type"),
        (block("task", {}, "tsk_1"), "block.type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_payload_of_a_known_type_is_refused_by_its_path_and_appends_nothing(
    tmp_path: Path, form: str, wrong: types_pb2.Block, path: str
) -> None:
    async with turn(tmp_path) as desk:
        await desk.command("show_block", block=block("step", {"label": "a", "status": "running"}))
        before = await desk.person.timeline(desk.session)
        found = await desk.answer(form, "show_block", block=wrong)
        assert isinstance(found, Refusal), found
        assert (found.reason, found.fields) == ("INVALID_ARGUMENT", [path])
        assert found.message.startswith(f"{path}: ")
        assert found.metadata == {"field": path}
        assert await desk.person.timeline(desk.session) == before
        # The line is not lost by it, and the next event takes the next offset.
        shown = await desk.answer(form, "show_block", block=block("card", {"label": 7}))
        assert shown.offset == before[-1].offset + 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_refused_change_leaves_the_block_as_it_was(tmp_path: Path, form: str) -> None:
    async with turn(tmp_path) as desk:
        good = block("step", {"label": "Reading", "status": "running"}, "reading")
        await desk.command("show_block", block=good)
        found = await desk.answer(form, "show_block", block=block("step", {"status": 1}, "reading"))
        assert found.fields == ["block.payload.label"]
        assert blocks_of(await desk.person.timeline(desk.session)) == [good]


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_shown_is_kept_byte_by_byte(tmp_path: Path, form: str) -> None:
    payloads = [
        ("order_card", b' {"n":123456789012345678901234567890,"deep":[[{"label":null}]]} '),
        ("suggestions", b'{"items" : ["\\u00e9", {"text":"b","label":"a"}]}'),
        ("step", b'{"status":"running","label":"a", "label":"b"}'),
    ]
    async with turn(tmp_path) as desk:
        for kind, payload in payloads:
            shown = types_pb2.Block(type=kind, payload_json=payload)
            found = await desk.answer(form, "show_block", block=shown)
            assert not isinstance(found, Refusal), found
        items = blocks_of(await desk.person.timeline(desk.session))
        assert [(item.type, item.payload_json) for item in items] == payloads


async def test_a_block_is_changed_in_its_place_after_a_restart_too(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with turn_on(running) as desk:
            first = block("step", {"label": "Reading", "status": "running"}, "reading")
            await desk.unary("show_block", block=first)
            await desk.command("reply", text="below")
            second = block("step", {"label": "Reading", "status": "completed"}, "reading")
            await desk.command("show_block", block=second)
            await desk.finish()
            session = desk.session
            await sidecar.kill()
            running = await sidecar.start()
            async with Person(running) as ada, BareHandler(running) as handler:
                items = await ada.timeline(session)
                assert [item.WhichOneof("item") for item in items] == [
                    "message",
                    "block",
                    "message",
                ]
                assert items[1].block == second
                place = items[1].offset
                await handler.attach()
                await ada.say(session, "again")
                work = await handler.work()
                third = block("card", {"said": "over"}, "reading")
                request = desk.request(
                    "show_block", block=third, invocation_id=work.invocation_id,
                    attempt=work.attempt,
                )  # fmt: skip
                result = await handler.result(await handler.command(show_block=request))
                assert result.show_block.block_id == "reading"
                items = await ada.timeline(session)
                assert (items[1].block, items[1].offset) == (third, place)
                assert blocks_of(items) == [third]
                await handler.finish(work)


async def test_clicks_reach_the_app_one_at_a_time_in_order_with_messages(tmp_path: Path) -> None:
    async with (
        running_sidecar(tmp_path) as sidecar,
        Person(sidecar) as ada,
        BareHandler(sidecar) as handler,
    ):
        await handler.attach(declarations=EVERYTHING)
        session = await ada.open()
        await handler.finish(await handler.work())  # enter

        def lane() -> list[handler_service_pb2.Invocation]:
            return [work for work in works(handler)[1:] if work.session.session_id == session]

        async def given(count: int) -> handler_service_pb2.Invocation:
            await eventually(lambda: len(lane()) >= count, timeout=15)
            return lane()[count - 1]

        await ada.say(session, "one")
        await given(1)
        await ada.call(
            "SendAction", session_id=session, name="pick", block_id="card",
            payload_json=b'{"n":12345678901234567890}',
        )  # fmt: skip
        await ada.say(session, "two")
        await ada.call("SendAction", session_id=session, name="pick")
        other = await ada.open()
        elsewhere = await handler.work(3)
        assert elsewhere.session.session_id == other, "another session is not behind them"
        for count in range(1, 5):
            work = await given(count)
            await beaten(handler, 2)
            assert len(lane()) == count, "one at a time"
            await handler.finish(work)
            await acknowledged(handler, work)
        done = lane()
        assert [work.WhichOneof("kind") for work in done] == ["turn", "action", "turn", "action"]
        assert done[2].turn.message.text == "two"
        clicks = [(w.action.name, w.action.block_id, w.action.payload_json) for w in done[1::2]]
        assert clicks[0] == ("pick", "card", b'{"n":12345678901234567890}')
        assert clicks[1][:2] == ("pick", "")

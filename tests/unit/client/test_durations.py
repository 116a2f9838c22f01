"""How long: the same forms wherever the author of a handler gives a time, and the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client import _task_rules
from capsule_client._durations import duration_of
from capsule_protocol.v1 import task_service_pb2 as wire
from capsule_protocol.v1 import types_pb2
from tests.unit.client.test_tasks import Tasking, make, within

FORM = 'seconds, a timedelta or a string as "90s", "10m", "1h30m" or "2d"'

FORMS = [
    ("90s", 90.0),
    ("10m", 600.0),
    ("1h30m", 5_400.0),
    ("2d", 172_800.0),
    ("1d2h3m4s", 93_784.0),
    (90, 90.0),
    (0.25, 0.25),
    (timedelta(minutes=2), 120.0),
]

WRONG: list[tuple[Any, type[Exception], str]] = [
    ("", ValueError, f"is {FORM}, not ''"),
    ("30", ValueError, f"is {FORM}, not '30'"),
    ("10 m", ValueError, f"is {FORM}, not '10 m'"),
    ("1.5h", ValueError, f"is {FORM}, not '1.5h'"),
    ("-5m", ValueError, f"is {FORM}, not '-5m'"),
    ("5m1h", ValueError, f"is {FORM}, not '5m1h'"),
    ("soon", ValueError, f"is {FORM}, not 'soon'"),
    ([1], TypeError, f"is {FORM}, not a list"),
    (True, TypeError, f"is {FORM}, not a bool"),
    (b"5m", TypeError, f"is {FORM}, not a bytes"),
    (float("nan"), ValueError, "is a finite time, not nan"),
    (float("inf"), ValueError, "is a finite time, not inf"),
]

ASKS: dict[str, Callable[[capsule.Session, Any], Awaitable[Any]]] = {
    "prompt_file": lambda session, span: session.prompt_file(timeout=span),
    "prompt_approval": lambda session, span: session.prompt_approval("?", timeout=span),
    "prompt_choice": lambda session, span: session.prompt_choice("?", ["a"], timeout=span),
}


@pytest.mark.parametrize(("given", "seconds"), FORMS)
async def test_every_time_that_a_handler_gives_takes_every_form(given: Any, seconds: float) -> None:
    async with Tasking() as sidecar:
        app = make(sidecar, drain_timeout=given)

        @app.task(timeout=given)
        async def sync(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session) -> list[Any]:
            await sync.submit()
            await sync.schedule(given)
            asked = [ask(session, given) for ask in ASKS.values()]
            return await asyncio.gather(*asked, return_exceptions=True)

        async def expire() -> None:
            for count in range(1, len(ASKS) + 1):
                sidecar.end_prompt(
                    await sidecar.prompt(count), status=types_pb2.PROMPT_STATUS_EXPIRED
                )

        results, _ = await asyncio.gather(within(sidecar, app, do), expire())
        assert [isinstance(error, TimeoutError) for error in results] == [True] * len(ASKS)
        now, later = (one.submit_task for one in sidecar.line.commands("submit_task"))
        assert now.timeout.ToTimedelta().total_seconds() == seconds
        assert later.delay.ToTimedelta().total_seconds() == seconds
        for kind in ASKS:
            (command,) = sidecar.line.commands(kind)
            assert getattr(command, kind).timeout.ToTimedelta().total_seconds() == seconds
        assert _task_rules.patience_of(given) == seconds


async def test_a_result_is_waited_for_as_long_as_the_string_says() -> None:
    async with Tasking() as sidecar:
        sidecar.tasks.append(wire.Task(task_id="tsk_1", status=wire.TASK_STATUS_RUNNING))
        app = make(sidecar)
        sync = app.task()(_sync)
        error = await within(sidecar, app, lambda session: sync.handle("tsk_1").result("1s"))
        assert isinstance(error, TimeoutError)
        assert "has not ended within 1 s" in str(error)
        first = sidecar.line.commands("get_task")[0].get_task
        assert 0.5 < first.wait.ToTimedelta().total_seconds() <= 1


@pytest.mark.parametrize(("given", "kind", "words"), WRONG)
async def test_another_time_is_refused_alike_wherever_it_is_given(
    given: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as declared:
        capsule.App("demo").task(timeout=given)(_sync)
    assert str(declared.value) == f"timeout {words}"
    with pytest.raises(kind) as made:
        capsule.App("demo", drain_timeout=given)
    assert str(made.value) == f"drain_timeout {words}"
    async with Tasking() as sidecar:
        app = make(sidecar)
        sync = app.task()(_sync)
        calls: list[tuple[str, Callable[[capsule.Session], Awaitable[Any]]]] = [
            ("delay", lambda session: sync.schedule(given)),
            ("timeout", lambda session: sync.handle("tsk_1").result(given)),
            *(("timeout", lambda session, ask=ask: ask(session, given)) for ask in ASKS.values()),
        ]

        async def do(session: capsule.Session) -> list[tuple[type[BaseException], str]]:
            return [await _raised(call(session)) for _, call in calls]

        found = await within(sidecar, app, do)
        assert found == [(kind, f"{parameter} {words}") for parameter, _ in calls]
        assert not sidecar.line.commands()


@pytest.mark.parametrize("given", [-1, -0.001, timedelta(-1)])
def test_a_time_that_has_passed_is_refused_by_its_parameter(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout is 1 ms to 30 days, not"):
        capsule.App("demo").task(timeout=given)(_sync)
    with pytest.raises(ValueError, match=r"^drain_timeout is not negative: "):
        capsule.App("demo", drain_timeout=given)
    with pytest.raises(ValueError, match=r"^delay is not negative: "):
        _task_rules.delay_of(given)
    with pytest.raises(ValueError, match=r"^timeout is not negative: "):
        _task_rules.patience_of(given)


def test_a_string_of_any_length_is_a_time_or_an_error() -> None:
    most = "999999d99999999h999999999m99999999999s"
    assert duration_of(most, "delay") > timedelta(days=999_999)
    with pytest.raises(ValueError, match=r"^delay is seconds, a timedelta or"):
        duration_of("9" + most, "delay")


async def _sync(session: capsule.Session) -> None: ...


async def _raised(call: Awaitable[Any]) -> tuple[type[BaseException], str]:
    try:
        await call
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    raise AssertionError("nothing was refused")

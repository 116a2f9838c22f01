"""What a task's declaration and submission have to keep to: said before anything is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client import _task_rules
from capsule_client._task_rules import Arguments


async def sync(session: capsule.Session, owner_id: str, depth: int = 1) -> dict[str, Any]:
    return {"synced": owner_id, "depth": depth}


async def loose(session: capsule.Session, owner_id: str, **rest: Any) -> None: ...


def declared(**options: Any) -> Callable[[Any], Any]:
    return capsule.App("demo").task(**options)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"retries": -1}, ValueError, "retries is 0 to 1,000"),
        ({"retries": 1001}, ValueError, "retries is 0 to 1,000"),
        ({"retries": True}, TypeError, "retries is a whole number"),
        ({"retries": 1.0}, TypeError, "retries is a whole number"),
        ({"timeout": 0}, ValueError, "timeout is 1 ms to 30 days"),
        ({"timeout": -5}, ValueError, "timeout is 1 ms to 30 days"),
        ({"timeout": timedelta(days=31)}, ValueError, "timeout is 1 ms to 30 days"),
        ({"timeout": float("nan")}, ValueError, "timeout is a finite time"),
        ({"timeout": 1e300}, ValueError, "timeout is a finite time"),
        ({"timeout": "31d"}, ValueError, "timeout is 1 ms to 30 days"),
        ({"timeout": "soon"}, ValueError, "timeout is seconds, a timedelta or a string"),
        ({"retry_for": ValueError("x")}, TypeError, "retry_for is an exception class or a tuple"),
        ({"retry_for": (ValueError, "x")}, TypeError, "retry_for is an exception class or a tuple"),
        ({"retry_for": [ValueError]}, TypeError, "retry_for is an exception class or a tuple"),
        ({"name": ""}, ValueError, "a task's name is 1 to 128"),
        ({"name": "x" * 129}, ValueError, "a task's name is 1 to 128"),
        ({"name": 7}, TypeError, "a task's name is a string"),
        ({"lock": ""}, ValueError, "is empty"),
        ({"lock": 5}, TypeError, "a lock is a string"),
        ({"lock": "{owner_id"}, ValueError, "expected '}'"),
        ({"lock": "{owner_id!r}"}, ValueError, "more than {name}"),
        ({"lock": "{owner_id:>5}"}, ValueError, "more than {name}"),
        ({"lock": "{owner_id:{depth}}"}, ValueError, "more than {name}"),
        ({"lock": "{owner_id.name}"}, ValueError, "more than {name}"),
        ({"lock": "{owner_id[0]}"}, ValueError, "more than {name}"),
        ({"lock": "{}"}, ValueError, "more than {name}"),
        ({"lock": "{0}"}, ValueError, "more than {name}"),
        ({"lock": "{session}"}, ValueError, "names 'session', which is no argument"),
        ({"lock": "x:{owner}"}, ValueError, "names 'owner', which is no argument"),
    ],
)
def test_a_task_is_not_declared_wrongly(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        declared(**options)(sync)


def test_a_function_that_cannot_be_a_task_is_named() -> None:
    def plain(session: capsule.Session) -> None: ...

    async def bare() -> None: ...

    async def by_position(session: capsule.Session, owner: str, /) -> None: ...

    async def many(session: capsule.Session, *owners: str) -> None: ...

    async def only_named(*, session: capsule.Session) -> None: ...

    for function, words in (
        (plain, "tasks are async functions: write `async def plain"),
        (bare, "'bare' takes the session first"),
        (by_position, "nothing gives owner: 'str' by position"),
        (many, r"nothing gives \*owners: 'str' by position"),
        (only_named, "'only_named' takes the session first"),
        (5, "tasks are async functions"),
    ):
        with pytest.raises(TypeError, match=words):
            declared(name=getattr(function, "__name__", "five"))(function)


@pytest.mark.parametrize("taken", ["key", "delay", "at", "session"])
def test_an_argument_that_submit_takes_itself_is_refused(taken: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"async def run(s, {taken}): ...", scope)
    with pytest.raises(ValueError, match=f"cannot take '{taken}'"):
        declared()(scope["run"])


def test_a_name_is_declared_once_and_an_object_may_be_a_task() -> None:
    app = capsule.App("demo")
    app.task()(sync)
    with pytest.raises(ValueError, match="the app has a task 'sync' already"):
        app.task()(sync)
    assert app.task(name="other")(sync).name == "other"

    class Call:
        async def __call__(self, session: capsule.Session, owner: str) -> None: ...

    assert app.task(name="object")(Call()).name == "object"
    with pytest.raises(ValueError, match="a task's name is 1 to 128"):
        app.task()(Call())


def test_an_object_and_a_task_of_another_app_keep_what_is_theirs() -> None:
    one, two = capsule.App("one"), capsule.App("two")

    class Call:
        def __init__(self) -> None:
            self._timeout = 5
            self._name = "mine"
            self.submit = "a word of its own"

        async def __call__(self, session: capsule.Session) -> None: ...

    task = one.task(name="object", timeout=60)(Call())
    assert task.name == "object"
    assert (task._timeout, task.submit.__name__) == (timedelta(seconds=60), "submit")
    again = two.task(name="again", retries=1)(one.task(name="first", retries=5)(sync))
    assert (again.name, again._retries) == ("again", 1)
    assert again._calls == two._own_tasks


async def test_called_directly_the_function_runs_here_and_now() -> None:
    app = capsule.App("demo")
    task = app.task(retries=3, lock="{owner_id}")(sync)
    session: Any = object()
    assert await task(session, owner_id="ada") == {"synced": "ada", "depth": 1}
    assert await task(session, "ada", depth=2) == {"synced": "ada", "depth": 2}
    assert await asyncio.create_task(task(session, "bob")) == {"synced": "bob", "depth": 1}
    assert vars(task)["__name__"] == "sync"
    assert repr(task) == "<task 'sync'>"
    assert capsule.current_task() is None
    with pytest.raises(capsule.Unavailable, match="'demo' is not attached: its tasks are out"):
        await task.submit(owner_id="ada")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "task 'sync': missing a required argument: 'owner_id'"),
        ({"owner_id": "a", "owner": 1}, "task 'sync': got an unexpected keyword argument 'owner'"),
        ({"owner_id": {1}}, "argument 'owner_id' of task 'sync' is a set"),
        ({"owner_id": "a", "depth": float("nan")}, "argument 'depth' of task 'sync' is nan"),
        ({"owner_id": [{"at": b""}]}, r"argument 'owner_id' of task 'sync'\[0\]\['at'\] is a byte"),
        ({"owner_id": "\ud800"}, "argument 'owner_id' of task 'sync' is not JSON"),
        ({"owner_id": datetime.now(UTC)}, "argument 'owner_id' of task 'sync' is a datetime"),
    ],
)
def test_arguments_that_do_not_fit_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Arguments(sync, "sync", None).take(given)


def test_arguments_travel_as_json_and_make_the_lock() -> None:
    take = Arguments(sync, "sync", "{{sync}}:{owner_id}:{depth}").take
    encoded, lock = take({"owner_id": 'a"ü', "depth": 2**70})
    assert json.loads(encoded) == {"owner_id": 'a"ü', "depth": 2**70}
    assert lock == f'{{sync}}:a"ü:{2**70}'
    assert take({"owner_id": "ada"}) == (b'{"owner_id":"ada"}', "{sync}:ada:1")
    assert take({"owner_id": ["a", None], "depth": True})[1] == '{sync}:["a",null]:true'
    assert Arguments(sync, "sync", "one").take({"owner_id": "ada"})[1] == "one"
    assert Arguments(sync, "sync", None).take({"owner_id": "ada"})[1] == ""


def test_a_lock_that_comes_out_empty_or_too_long_is_refused() -> None:
    take = Arguments(sync, "sync", "{owner_id}").take
    for owner in ("", "x" * 513):
        with pytest.raises(ValueError, match="its lock is 1 to 512 characters"):
            take({"owner_id": owner})


def test_a_lock_over_what_takes_all_others_may_lack_one_when_submitted() -> None:
    take = Arguments(loose, "loose", "{owner_id}:{place}").take
    assert take({"owner_id": "ada", "place": 3})[1] == "ada:3"
    with pytest.raises(TypeError, match="task 'loose': its lock needs the argument 'place'"):
        take({"owner_id": "ada"})
    with pytest.raises(ValueError, match="names 'session', which is no argument"):
        Arguments(loose, "loose", "{session}")


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("10s", 10),
        ("1d2h3m4s", 93_784),
        ("0s", 0),
        (90, 90),
        (0.25, 0.25),
        (timedelta(minutes=2), 120),
    ],
)
def test_a_delay_is_a_string_seconds_or_a_timedelta(delay: Any, seconds: float) -> None:
    assert _task_rules.delay_of(delay) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "delay",
    ["", "30", "m", "30 m", "1.5h", "-5m", "5m1h", "30M", "٣m", -1, timedelta(-1), float("inf")],
)
def test_another_delay_is_refused(delay: Any) -> None:
    with pytest.raises(ValueError, match="delay is"):
        _task_rules.delay_of(delay)


def test_a_delay_of_another_type_and_a_time_without_a_zone_are_refused() -> None:
    for delay in (True, None, [1]):
        with pytest.raises(TypeError, match="delay is"):
            _task_rules.delay_of(delay)  # type: ignore[arg-type]  # wrong on purpose
    at = datetime.now(UTC)
    assert _task_rules.moment_of(at) == at
    with pytest.raises(ValueError, match="at says no time zone"):
        _task_rules.moment_of(at.replace(tzinfo=None))
    with pytest.raises(TypeError, match="at is a datetime, not a str"):
        _task_rules.moment_of("tomorrow")  # type: ignore[arg-type]  # wrong on purpose


def test_schedules_are_declared_by_functions_that_take_the_session() -> None:
    app = capsule.App("demo")

    @app.schedule("0 * * * *")
    async def hourly(session: capsule.Session) -> None: ...

    assert hourly.__name__ == "hourly"
    with pytest.raises(ValueError, match="the app has a schedule 'hourly' already"):
        app.schedule("1 * * * *", name="hourly")(hourly)
    with pytest.raises(ValueError, match="cron is empty"):
        app.schedule(" ")
    with pytest.raises(ValueError, match="timezone is empty"):
        app.schedule("0 * * * *", "")
    with pytest.raises(TypeError, match="cron is a string, not a int"):
        app.schedule(5)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="schedule handler sync takes"):
        app.schedule("0 * * * *")(sync)  # type: ignore[type-var]  # wrong on purpose

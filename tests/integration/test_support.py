"""The helpers that other tests lean on."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy

from tests.support.eventually import eventually
from tests.support.postgres import postgres_server


def test_a_private_postgres_server_answers_and_is_gone_afterwards() -> None:
    with postgres_server({"application_name": "seen"}) as url:
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1
            assert connection.execute(sqlalchemy.text("show fsync")).scalar() == "on"
            assert connection.execute(sqlalchemy.text("show server_encoding")).scalar() == "UTF8"
        engine.dispose()
    with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect():
        pass


async def test_eventually_returns_the_first_truthy_value() -> None:
    values = iter([0, "", None, 7])
    assert await eventually(lambda: next(values)) == 7


async def test_eventually_takes_an_async_predicate_and_its_assertions_as_not_yet() -> None:
    tries = 0

    async def third_time() -> bool:
        nonlocal tries
        tries += 1
        assert tries == 3
        return True

    assert await eventually(third_time) is True


async def test_eventually_names_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon"):
        await eventually(lambda: False, timeout=0.05, message="the moon")


async def test_eventually_does_not_wait_for_a_predicate_that_never_returns() -> None:
    async def forever() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(AssertionError, match="did not return"):
        await eventually(forever, timeout=0.05)

from __future__ import annotations

import os

import pytest

from capsule_sidecar.life import LIFE_FD, inherited, watched
from tests.support.eventually import eventually


@pytest.mark.parametrize(
    ("given", "found"), [("7", 7), ("", None), ("-1", None), ("x", None), ("²", None)]
)
def test_the_pipe_is_taken_out_of_the_environment(
    given: str, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIFE_FD, given)
    assert inherited() == found
    assert LIFE_FD not in os.environ
    assert inherited() is None


async def test_the_end_of_the_parent_is_told_once() -> None:
    told: list[str] = []
    ours, parents = os.pipe()
    try:
        async with watched(ours, lambda: told.append("gone")), watched(None, told.clear):
            assert not told
            os.close(parents)
            await eventually(lambda: told)
        assert told == ["gone"]
    finally:
        os.close(ours)

"""Work is given out also when storage was away at the moment it should have been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage import offers
from tests.support.sidecar import BareHandler, Person, running_sidecar


async def test_work_that_could_not_be_given_out_is_given_out_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_sidecar(tmp_path) as running,
        Person(running) as ada,
        BareHandler(running) as handler,
    ):
        await ada.say(await ada.open(), "hello")
        lease_ready, refusals = offers.lease_ready, [1]

        def locked(*args: Any, **kwargs: Any) -> None:
            if refusals:
                refusals.clear()
                raise StorageUnavailable("the database is locked")
            lease_ready(*args, **kwargs)

        monkeypatch.setattr(offers, "lease_ready", locked)
        await handler.attach()
        assert (await handler.work()).turn.message.text == "hello"
        assert not refusals

"""An Attach that ends while it is being committed leaves nobody behind."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

from capsule_sidecar.batching import Outbox
from capsule_sidecar.model.types import Declarations
from capsule_sidecar.runtime.processes import Hello, ProcessLine
from capsule_sidecar.storage.unit import Unit
from tests.support.sidecar import request_id, running_sidecar


async def test_a_process_that_leaves_while_it_is_entered_is_not_attached(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running:
        assert running.sidecar is not None
        dispatcher, journal = running.sidecar._dispatcher, running.sidecar.journal
        await dispatcher.app("support")
        line = ProcessLine(Outbox(max_bytes=1 << 20, batch_bytes=1 << 20))
        hello = Hello("support", request_id(), "test", "1", Declarations(message=True), 1, ())
        gate = threading.Event()

        def wait(_: Unit) -> None:
            assert gate.wait(15)

        journal.start(0, wait)
        attaching = asyncio.create_task(dispatcher.attach(hello, line))
        await asyncio.sleep(0)
        attaching.cancel()
        with suppress(asyncio.CancelledError):
            await attaching
        line.gone = True
        gate.set()
        await journal.submit(0, lambda _: None)
        assert dispatcher.processes == []
        assert not running.sidecar.hub.online(await dispatcher.app("support"))

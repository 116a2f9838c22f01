"""The one writer when something goes wrong: what its callers, and readiness, are told."""

from __future__ import annotations

import sqlite3

import pytest

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage import leases
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import Store, nothing


async def test_only_a_write_says_that_storage_is_back(sqlite_store: Store) -> None:
    def full(_: Unit) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with sqlite_store.sidecar() as sidecar:
        with pytest.raises(StorageUnavailable):
            await sidecar.do(full)
        assert not sidecar.journal.healthy
        await sidecar.do(nothing)
        assert not sidecar.journal.healthy
        await sidecar.do(leases.probe)
        assert sidecar.journal.healthy


async def test_a_listener_that_fails_leaves_nobody_waiting(sqlite_store: Store) -> None:
    def defect(_: None) -> None:
        raise RuntimeError("a defect")

    async with sqlite_store.sidecar() as sidecar:
        first = sidecar.journal.submit(0, nothing, defect)
        second = sidecar.journal.submit(0, nothing)
        with pytest.raises(RuntimeError, match="a defect"):
            await first
        await second

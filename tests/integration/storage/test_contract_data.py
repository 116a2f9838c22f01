"""A session's data: patches that apply whole or not at all."""

from __future__ import annotations

import json

import pytest

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.model.types import DataPatch, InvocationStatus, Lease, Terms
from capsule_sidecar.storage import session_reads
from tests.integration.storage.store import Sidecar, Store

SMALL = Terms(max_data_bytes=100)


async def _turn(sidecar: Sidecar) -> tuple[str, Lease]:
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1)


async def _data(sidecar: Sidecar, session: str) -> object:
    number = await sidecar.number(session)
    return json.loads(await sidecar.read(session_reads.session_data, number))


async def test_a_patch_sets_replaces_and_deletes(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"a": b"1", "b": b'"two"', "c": b"[3]"})
        await sidecar.patch(lease, {"b": b"null"}, "c", "never there")
        assert await _data(sidecar, session) == {"a": 1, "b": None}


async def test_patches_of_one_group_apply_in_their_order(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        futures = [
            sidecar.patch(lease, {"n": b"1", "gone": b"1"}),
            sidecar.patch(lease, {"n": b"2"}, "gone"),
            sidecar.patch(lease, {"m": b"3"}),
        ]
        for future in futures:
            await future
        assert await _data(sidecar, session) == {"n": 2, "m": 3}


async def test_values_come_back_byte_for_byte_after_a_restart(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"\u00e9 \U0001f600": b"123456789012345678901234567890.10"})
    async with store.sidecar() as sidecar:
        number = await sidecar.number(session)
        found = await sidecar.read(session_reads.session_data, number)
        assert found.endswith(b":123456789012345678901234567890.10}")
        assert list(json.loads(found)) == ["\u00e9 \U0001f600"]


async def test_data_beyond_the_limit_is_refused_whole(store: Store) -> None:
    async with store.sidecar(SMALL) as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"a": b"1" * 49})
        with pytest.raises(LimitExceeded) as refused:
            await sidecar.patch(lease, {"b": b"2", "c": b"3" * 50})
        assert refused.value.metadata["limit"] == "session_data"
        assert await _data(sidecar, session) == {"a": int("1" * 49)}
        await sidecar.patch(lease, {"b": b"2" * 49})
        with pytest.raises(LimitExceeded):
            await sidecar.patch(lease, {"c": b"3"})


async def test_what_is_replaced_or_deleted_makes_room(store: Store) -> None:
    async with store.sidecar(SMALL) as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"a": b"1" * 99})
        await sidecar.patch(lease, {"b": b"2" * 99}, "a")
        await sidecar.patch(lease, {"b": b"3" * 49})
        await sidecar.patch(lease, {"c": b"4" * 49})
        assert await _data(sidecar, session) == {"b": int("3" * 49), "c": int("4" * 49)}


async def test_data_over_a_lowered_limit_may_shrink(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"a": b"1" * 500, "b": b"2" * 500})
    async with store.sidecar(SMALL) as sidecar:
        await sidecar.patch(lease, {"a": b"1"})
        with pytest.raises(LimitExceeded):
            await sidecar.patch(lease, {"a": b"12"})
        assert await _data(sidecar, session) == {"a": 1, "b": int("2" * 500)}


async def test_a_patch_of_many_keys_applies_whole(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        many = {f"key {n}": b"1" for n in range(1_200)}
        await sidecar.patch(lease, many)
        await sidecar.patch(lease, {"last": b"1"}, *many)
        assert await _data(sidecar, session) == {"last": 1}


async def test_an_outcomes_data_is_applied_with_its_end(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.finish(lease, data=DataPatch({"step": b"2"}))
        await sidecar.finish(lease, data=DataPatch({"step": b"3"}))
        assert await _data(sidecar, session) == {"step": 2}


@pytest.mark.parametrize(
    "patch",
    [
        DataPatch({"a": b"1" * 200}),
        DataPatch({"a": b"NaN"}),
        DataPatch({"": b"1"}),
        DataPatch({"nul\0": b"1"}),
        DataPatch({"a": b"1"}, ("a",)),
    ],
    ids=["too large", "not JSON", "no key", "a key that not every database holds", "both"],
)
async def test_an_outcome_with_data_that_cannot_be_applied_fails_the_turn(
    store: Store, patch: DataPatch
) -> None:
    async with store.sidecar(SMALL) as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.patch(lease, {"kept": b"1"})
        assert await sidecar.finish(lease, data=patch) == InvocationStatus.FAILED
        row = await sidecar.invocation(lease.invocation_id)
        assert row["reason"] == "INVALID_DATA"
        assert await _data(sidecar, session) == {"kept": 1}


async def test_sessions_have_their_own_data(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        other = await sidecar.open()
        await sidecar.patch(lease, {"mine": b"1"})
        assert await _data(sidecar, other) == {}
        assert await _data(sidecar, session) == {"mine": 1}


def test_the_error_of_a_refused_key_names_the_field() -> None:
    from capsule_sidecar.storage.values import check_patch

    with pytest.raises(InvalidArgument) as refused:
        check_patch(DataPatch({"nul\0": b"1"}), "patch")
    assert refused.value.field == "patch"

"""Small values by key, in four scopes."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from capsule_sidecar.model.errors import (
    InvalidArgument,
    LimitExceeded,
    NoUser,
    RequestIdReused,
    Superseded,
    WrongType,
)
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import keyvalues
from capsule_sidecar.storage.scopes import Scope
from tests.integration.storage.desk import Desk
from tests.integration.storage.store import Sidecar, Store


async def _lease(sidecar: Sidecar) -> Lease:
    if not sidecar.slots.processes(sidecar.app):
        await sidecar.attach(free=20)
    sent = await sidecar.say(await sidecar.open(), "hello")
    return Lease(sent.ids[1], 1)


async def test_values_come_back_byte_for_byte(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        written = b'{"b": 1.50,  "a": 123456789012345678901234567890}'
        at = await desk.set("\u00e9 \U0001f600", written)
        assert await desk.get("\u00e9 \U0001f600") == written
        ((value,), token) = await desk.page()
        assert (value.key, value.update_ms, token) == ("\u00e9 \U0001f600", at, "")
        assert await desk.get("other") is None
        assert await desk.unset("\u00e9 \U0001f600") is True
        assert await desk.unset("\u00e9 \U0001f600") is False


async def test_the_same_key_in_two_scopes_is_two_entries(store: Store) -> None:
    async with store.sidecar() as sidecar:
        first, second = await _lease(sidecar), await _lease(sidecar)
        desks = [Desk(sidecar, scope=scope, lease=first) for scope in Scope]
        for desk in desks:
            await desk.set("k", f"{desk.scope.name}")
        assert [await desk.get("k") for desk in desks] == [
            b'"SESSION"', b'"USER"', b'"OWNER"', b'"APP"'
        ]  # fmt: skip
        others = [desk.at(lease=second) for desk in desks]
        assert [await desk.get("k") for desk in others] == [
            None, b'"USER"', b'"OWNER"', b'"APP"'
        ]  # fmt: skip
        assert await Desk(await sidecar.of_app("strangers")).get("k") is None


async def test_increments_are_exact_and_none_is_lost(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        assert await desk.add("n") == b"1"
        await asyncio.gather(*(desk.add("n", b"2") for _ in range(200)))
        assert await desk.get("n") == b"401"
        large = 10**398
        assert await desk.add("n", b"%d" % large) == b"%d" % (large + 401)
        assert await desk.add("n", b"-%d" % large) == b"401"
        assert await desk.add("n", b"0.5") == b"401.5"
        assert await desk.add("n", b"1e300") == b"1e+300"
        key = uuid.uuid4()
        assert [await desk.add("m", b"5", key=key) for _ in range(2)] == [b"5", b"5"]
        with pytest.raises(RequestIdReused):
            await desk.add("m", b"6", key=key)


async def test_what_is_no_number_is_left_as_it_is(store: Store) -> None:
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        for value, by, why in (
            (b'"1"', b"1", "no number"), (b"null", b"1", "no number"), (b"true", b"1", "no number"),
            (b"[1]", b"1", "no number"), (b"1e308", b"1e308", r"^by: .*floating point"),
            (b"9" * 400, b"1", r"^by: .*400 characters"),
        ):  # fmt: skip
            await desk.set("v", value)
            with pytest.raises(WrongType, match=why):
                await desk.add("v", by)
            assert await desk.get("v") == value


async def test_values_are_listed_in_pages_by_code_point(store: Store) -> None:
    keys = ["a", "B", "a%", "a_", "ab", "a\u00e9", "a\U0001f600", "a\uffff", "z"]
    async with store.sidecar() as sidecar:
        desk = Desk(sidecar)
        for key in keys:
            await desk.set(key, "x" * 100)
        await desk.at(sidecar=await sidecar.of_app("strangers")).set("ac", 1)
        for prefix in ("", "a", "a%", "a_", "a\uffff", "q"):
            expected = sorted(key for key in keys if key.startswith(prefix))
            for size in (1, 2, 50):
                assert await _all(desk, prefix, size) == expected
        assert await _all(desk, "", 50, size_bytes=250) == sorted(keys)
        page, token = await desk.page(size_bytes=250)
        assert len(page) == 3
        with pytest.raises(InvalidArgument):
            await desk.page(prefix="z", token=token)
        for bad in ("x", "dmFs", "\u00e9"):
            with pytest.raises(InvalidArgument):
                await desk.page(token=bad)


async def _all(desk: Desk, prefix: str, size: int, size_bytes: int = 1 << 20) -> list[str]:
    found, token = [], ""
    while True:
        page, token = await desk.page(prefix, size, token, size_bytes)
        found += [value.key for value in page]
        if not token:
            return found


async def test_a_superseded_attempt_sets_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        lease = await _lease(sidecar)
        desk = Desk(sidecar, scope=Scope.APP, lease=lease)
        await desk.set("k", 1)
        await sidecar.given_back(lease)
        for refused in (desk.set("k", 2), desk.add("k"), desk.unset("k"), desk.get("k")):
            with pytest.raises(Superseded):
                await refused
        assert await desk.at(lease=None).get("k") == b"1"


async def test_a_session_without_a_user_has_no_users_scope(store: Store) -> None:
    async with store.sidecar() as sidecar:
        lease = await _lease(sidecar)
        desk = Desk(sidecar, scope=Scope.USER, lease=lease)

        def forget(unit: object) -> None:
            from sqlalchemy import update

            from capsule_sidecar.storage import schema
            from capsule_sidecar.storage.unit import Unit

            assert isinstance(unit, Unit)
            unit.execute(update(schema.sessions).values(user=0))
            unit.forget()

        await sidecar.do(forget)
        for scope in (Scope.USER, Scope.OWNER):
            for refused in (desk.at(scope=scope).get("k"), desk.at(scope=scope).set("k", 1)):
                with pytest.raises(NoUser):
                    await refused
        await desk.at(scope=Scope.SESSION).set("k", 1)


@pytest.mark.parametrize("key", ["", "k" * 257, "a\0"])
def test_a_key_that_cannot_be_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^key: "):
        keyvalues.check_key(key)


@pytest.mark.parametrize(
    "value", [b"", b"NaN", b"[Infinity]", b"{", b"\xff", b"[" * 5_000, b"1" * 401]
)
def test_a_value_that_is_no_json_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"^value: "):
        keyvalues.check_value(value)


@pytest.mark.parametrize("by", [b"x", b"null", b'"1"', b"NaN", b"1e999", b"1" * 401, b"true"])
def test_what_cannot_be_added_is_refused(by: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"^by: "):
        keyvalues.parse_by(by)


def test_a_value_that_is_too_large_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        keyvalues.check_value(b"1" * ((1 << 20) + 1))

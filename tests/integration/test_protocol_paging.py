"""Lists: sizes are coerced, tokens belong to their list, pages join without gap or repetition."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import (
    admin_service_pb2,
    channel_service_pb2,
    handler_service_pb2,
    session_service_pb2,
)
from capsule_sidecar.config import Limits
from tests.support.sidecar import refused, running_sidecar
from tests.support.turns import Desk, turn_on

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
FEW = Limits(page_size=3, max_page_size=7)


@dataclass
class List:
    """A list that pages, with 10 entries."""

    desk: Desk
    method: str

    async def page(self, size: int = 0, token: str = "") -> tuple[list[str], str]:
        """Returns the ids of a page in the list's own order, and the next token."""
        fields: dict[str, Any] = {"page_size": size, "page_token": token}
        match self.method:
            case "ListSessions":
                page = await self.desk.person.call(self.method, **fields)
                found = [session.session_id for session in page.sessions]
            case "GetTimeline":
                page = await self.desk.person.call(
                    self.method, session_id=self.desk.session, **fields
                )
                found = [item.message.text for item in reversed(page.items)]
            case "ListMessages":
                page = await self.desk.unary("list_messages", **fields)
                found = [message.text for message in reversed(page.messages)]
            case "ListApps":
                page = await self._admin(admin_service_pb2.ListAppsRequest(**fields))
                found = [app.app for app in page.apps]
            case "ListAppSessions":
                page = await self._admin(
                    admin_service_pb2.ListAppSessionsRequest(app="support", **fields)
                )
                found = [one.session.session_id for one in page.sessions]
            case _:
                page = await self._admin(
                    admin_service_pb2.ListInvocationsRequest(app="support", **fields)
                )
                found = [one.invocation_id for one in page.invocations]
        return found, page.next_page_token

    async def _admin(self, request: Any) -> Any:
        method = getattr(self.desk.person.admin, self.method)
        return await method(request, metadata=self.desk.person.metadata, timeout=20)


LISTS = ["ListSessions", "GetTimeline", "ListMessages", "ListApps", "ListInvocations",
         "ListAppSessions"]  # fmt: skip


@asynccontextmanager
async def lists(home: Path) -> AsyncIterator[dict[str, List]]:
    """Runs a sidecar on which every list has at least 10 entries."""
    async with running_sidecar(home, limits=FEW) as running:
        async with turn_on(running) as first:
            desk = first
            for number in range(9):
                await desk.command("reply", text=f"reply {number}")
            await desk.finish()
            desk = await desk.next_turn("last")
            for _ in range(10):
                await desk.person.open()
            for number in range(10):
                metadata = running.metadata(f"app-{number}")
                await desk.person.stub.ListSessions(
                    channel_service_pb2.ListSessionsRequest(identity="terminal:ada"),
                    metadata=metadata, timeout=20,
                )  # fmt: skip
            yield {method: List(desk, method) for method in LISTS}


def test_every_list_is_tested() -> None:
    found = {
        method.name
        for file in (
            handler_service_pb2,
            session_service_pb2,
            channel_service_pb2,
            admin_service_pb2,
        )
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if "page_token" in method.input_type.fields_by_name
    }
    assert found == set(LISTS)


async def test_pages_join_without_gap_or_repetition(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        for method, found in everything.items():
            joined, token, pages = [], "", 0
            while pages == 0 or token:
                page, token = await found.page(4, token)
                assert len(page) == 4 or not token, method
                joined.extend(page)
                pages += 1
            assert len(joined) == len(set(joined)) >= 10, method
            assert pages == -(-len(joined) // 4), method


async def test_a_size_is_coerced(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        for method, found in everything.items():
            assert len((await found.page(0))[0]) == 3, method
            assert len((await found.page(1))[0]) == 1, method
            assert len((await found.page(7))[0]) == 7, method
            assert len((await found.page(8))[0]) == 7, method
            assert len((await found.page(2**31 - 1))[0]) == 7, method


async def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        for found in everything.values():
            for size in (-1, -(2**31)):
                with refused(*INVALID) as refusal:
                    await found.page(size)
                assert refusal.fields == ["page_size"]


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "=",
        "é",
        base64.urlsafe_b64encode(b"[" * 50_000).decode(),
        base64.urlsafe_b64encode(b'["timeline",1,2]').decode(),
        base64.urlsafe_b64encode(b'["apps",-1]').decode(),
        base64.urlsafe_b64encode(b'["apps",true]').decode(),
        base64.urlsafe_b64encode(b'["sessions",9223372036854775808,1]').decode(),
    ],
    ids=["words", "padding", "accents", "nested", "short", "negative", "no number", "too large"],
)
async def test_a_token_that_was_never_given_is_refused(tmp_path: Path, token: str) -> None:
    async with lists(tmp_path) as everything:
        for found in everything.values():
            with refused(*INVALID) as refusal:
                await found.page(2, token)
            assert refusal.fields == ["page_token"]


async def test_a_token_of_another_list_is_refused(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        tokens = {method: (await found.page(2))[1] for method, found in everything.items()}
        assert all(tokens.values())
        for method, found in everything.items():
            for other, token in tokens.items():
                if other != method:
                    with refused(*INVALID) as refusal:
                        await found.page(2, token)
                    assert refusal.fields == ["page_token"], (method, other)


async def test_a_token_of_another_session_is_refused(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        desk = everything["GetTimeline"].desk
        _, token = await everything["GetTimeline"].page(2)
        other = await desk.person.open()
        with refused(*INVALID):
            await desk.person.call("GetTimeline", session_id=other, page_token=token)


async def test_an_empty_list_is_one_empty_page(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        page = await desk.unary("list_messages")
        assert (list(page.messages), page.next_page_token) == ([], "")
        nobody = await desk.person.call("ListSessions", identity="terminal:nobody")
        assert (list(nobody.sessions), nobody.next_page_token) == ([], "")
        assert nobody.position > 0


async def test_an_operator_who_looks_at_an_app_does_not_make_it(tmp_path: Path) -> None:
    async with lists(tmp_path) as everything:
        admin, metadata = everything["ListApps"].desk.person.admin, None
        metadata = everything["ListApps"].desk.person.metadata
        for name in ("never-seen", "", "No Name"):
            request = admin_service_pb2.ListInvocationsRequest(app=name)
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await admin.ListInvocations(request, metadata=metadata)
        unknown: Any = 99
        request = admin_service_pb2.ListInvocationsRequest(app="support", status=unknown)
        with refused(*INVALID) as refusal:
            await admin.ListInvocations(request, metadata=metadata)
        assert refusal.fields == ["status"]
        apps = await admin.ListApps(
            admin_service_pb2.ListAppsRequest(page_size=7), metadata=metadata
        )
        assert "never-seen" not in [app.app for app in apps.apps]

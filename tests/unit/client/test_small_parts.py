"""Ids, frames, settings, the window and the table of errors."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

import capsule_client as capsule
from capsule_client import _frames, _utf8
from capsule_client._error_table import from_rpc, from_status
from capsule_client._ids import RequestIds
from capsule_client._leases import Leases
from capsule_client._settings import Address, TokenSource, address_of
from capsule_client._window import Window
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1.errors_pb2 import ErrorReason
from tests.support.fake_sidecar import status


def test_request_ids_are_version_7_uuids_unique_and_in_order_of_time() -> None:
    make = RequestIds()
    ids = [make() for _ in range(2000)]
    parsed = [uuid.UUID(one) for one in ids]
    assert [str(one) for one in parsed] == ids
    assert {one.version for one in parsed} == {7}
    assert {one.variant for one in parsed} == {uuid.RFC_4122}
    assert len(set(ids)) == 2000
    times = [one.int >> 80 for one in parsed]
    assert times == sorted(times)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000])
def test_frames_joined_are_a_batch(size: int) -> None:
    command = pb.Command(tag=1)
    command.reply.text = "x" * size
    frames = [pb.HandlerFrame(command=command), pb.HandlerFrame(beat=pb.Beat(number=2))]
    joined = b"".join(map(_frames.encode, frames))
    assert list(pb.AttachRequest.FromString(joined).frames) == frames


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (None, Address("127.0.0.1:7400")),
        ("example.org:1", Address("example.org:1")),
        ("[::1]:7400", Address("[::1]:7400")),
        ("unix:/run/capsule.sock", Address("unix:/run/capsule.sock")),
        ("https://example.org", Address("example.org:443", secure=True)),
        ("https://example.org:8443/", Address("example.org:8443", secure=True)),
        ("https://[::1]", Address("[::1]:443", secure=True)),
    ],
)
def test_the_forms_of_an_address(
    given: str | None, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPSULE_ADDRESS", raising=False)
    assert address_of(given) == address


@pytest.mark.parametrize("given", ["http://x:1", "nonsense", "https://", "https://a/b", "host:"])
def test_another_address_is_refused(given: str) -> None:
    with pytest.raises(capsule.InvalidArgument, match="CAPSULE_ADDRESS"):
        address_of(given)


def test_the_token_is_an_argument_a_variable_or_the_homes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPSULE_TOKEN", raising=False)
    monkeypatch.setenv("CAPSULE_HOME", str(tmp_path))
    source = TokenSource(None)
    assert source.read() == ""
    (tmp_path / "token").write_text("from-file\n")
    assert source.read() == "from-file"
    assert not source.fixed
    monkeypatch.setenv("CAPSULE_TOKEN", "from-variable")
    assert TokenSource(None).read() == "from-variable"
    assert TokenSource("given").read() == "given"
    assert TokenSource("given").fixed


def test_every_reason_of_the_contract_means_an_error() -> None:
    expected = {
        "INVALID_ARGUMENT": capsule.InvalidArgument,
        "UNAUTHENTICATED": capsule.PermissionDenied,
        "PERMISSION_DENIED": capsule.PermissionDenied,
        "NOT_FOUND": capsule.NotFound,
        "REQUEST_ID_REUSED": capsule.Conflict,
        "SUPERSEDED": capsule.Superseded,
        "INVOCATION_ENDED": capsule.Superseded,
        "STOPPED": capsule.Stopped,
        "NO_USER": capsule.Conflict,
        "NO_SESSION": capsule.NoSession,
        "NO_REPLY_TARGET": capsule.NoReplyTarget,
        "NO_TASK": capsule.Conflict,
        "NOT_FAILED": capsule.Conflict,
        "NOT_REPEATABLE": capsule.Conflict,
        "WRONG_TYPE": capsule.Conflict,
        "DOCUMENT_EXISTS": capsule.Conflict,
        "SESSION_CLOSED": capsule.Conflict,
        "STREAM_CLOSED": capsule.Conflict,
        "INCOMPATIBLE_VERSION": capsule.CapsuleError,
        "STREAM_GAP": capsule.CapsuleError,
        "PLACE_UNAVAILABLE": capsule.NotFound,
        "LIMIT_EXCEEDED": capsule.LimitExceeded,
        "RATE_LIMITED": capsule.LimitExceeded,
        "DIGEST_MISMATCH": capsule.CapsuleError,
        "STORAGE_UNAVAILABLE": capsule.Unavailable,
        "SHUTTING_DOWN": capsule.Unavailable,
        "REPLACED": capsule.Unavailable,
        "UNKNOWN_COMMAND": capsule.CapsuleError,
        "NO_HANDLER": capsule.Unavailable,
        "DEADLINE": capsule.Unavailable,
        "HANDLER_LOST": capsule.Unavailable,
        "HANDLER_ERROR": capsule.CapsuleError,
        "INTERNAL": capsule.CapsuleError,
    }
    known = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - a wrapper of the enum
    assert known - {"UNSPECIFIED"} == expected.keys()
    for reason, kind in expected.items():
        error = from_status(status("UNKNOWN", reason, "words"))
        assert type(error) is kind, reason
        assert error.reason == reason


def test_an_error_keeps_message_metadata_fields_and_its_cause() -> None:
    answer = status("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "too long", limit="text", maximum="9")
    error = from_status(answer)
    assert str(error) == "too long"
    assert error.metadata == {"limit": "text", "maximum": "9"}
    assert isinstance(error.__cause__, grpc.RpcError)
    assert error.__cause__.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    answer = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="is wrong")
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="block.type", description="is wrong")
    answer.details.add().Pack(request)
    assert str(from_status(answer)) == "is wrong (block.type)"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, capsule.Unavailable),
        (grpc.StatusCode.UNAUTHENTICATED, capsule.PermissionDenied),
        (grpc.StatusCode.NOT_FOUND, capsule.NotFound),
        (grpc.StatusCode.INTERNAL, capsule.CapsuleError),
    ],
)
def test_a_call_without_a_reason_is_told_by_its_code(
    code: grpc.StatusCode, kind: type[capsule.CapsuleError]
) -> None:
    cause = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "words")
    error = from_rpc(cause)
    assert type(error) is kind
    assert error.__cause__ is cause


def test_text_is_cut_between_characters() -> None:
    assert _utf8.cut("aä€😀", 3) == ("aä", 3)
    assert _utf8.cut("aä€😀", 5) == ("aä", 3)
    assert _utf8.cut("aä€😀", 6) == ("aä€", 6)
    assert _utf8.cut("abc", -1) == ("", 0)
    assert _utf8.common("abcd", "abxd") == 2
    assert _utf8.common("", "a") == 0
    assert _utf8.common("same", "same") == 4


async def test_who_finds_no_room_in_the_window_waits_in_line() -> None:
    window = Window(2, 100, lambda: None)
    await window.take(1, 60)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await window.take(1, size)
        order.append(name)

    big = asyncio.create_task(take("big", 50))
    small = asyncio.create_task(take("small", 10))
    await asyncio.sleep(0)
    assert not window.try_take(1, 1)
    assert order == []
    window.give(1, 60)
    await asyncio.gather(big, small)
    assert order == ["big", "small"]


async def test_who_leaves_the_line_takes_no_room() -> None:
    window = Window(1, 100, lambda: None)
    await window.take(1, 10)
    first = asyncio.create_task(window.take(1, 10))
    second = asyncio.create_task(window.take(1, 10))
    await asyncio.sleep(0)
    window.give(1, 10)  # the first is admitted, and cancelled before it learns of it
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    await second


async def test_what_is_larger_than_the_window_passes_alone() -> None:
    window = Window(5, 100, lambda: None)
    assert window.try_take(1, 1000)
    assert not window.try_take(1, 1)
    window.give(1, 1000)
    assert window.try_take(1, 1)


def test_the_term_counts_from_the_sending_of_the_last_answered_beat() -> None:
    now = 100.0
    leases = Leases(lambda: now)
    leases.term = 10.0
    assert not leases.hold()
    leases.begin(100.0)
    now = 108.9
    assert leases.hold()
    leases.answered(103.0)
    now = 111.9
    assert leases.hold()
    now = 112.1  # a second before the term of the beat sent at 103 ends
    assert not leases.hold()


def test_a_beat_sent_after_the_term_brings_nothing_back() -> None:
    now = 100.0
    leases = Leases(lambda: now)
    leases.term = 10.0
    leases.begin(100.0)
    now = 120.0
    leases.answered(119.0)
    assert not leases.hold()

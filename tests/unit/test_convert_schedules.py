"""What is declared as a schedule is taken as it is, or refused with its field's name."""

from __future__ import annotations

import pytest

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import Schedule
from capsule_sidecar.rpc import convert

_FIELD = "hello.declarations.schedules"


def _declare(*schedules: pb.ScheduleDeclaration) -> tuple[Schedule, ...]:
    return convert.declarations(pb.Declarations(schedules=schedules)).schedules


def _daily(name: str, cron: str = "0 3 * * *", timezone: str = "") -> pb.ScheduleDeclaration:
    return pb.ScheduleDeclaration(name=name, cron=cron, timezone=timezone)


def test_a_schedule_without_a_time_zone_is_in_utc() -> None:
    assert _declare(_daily("nightly"), _daily("noon", "0 12 * * *", "Europe/Berlin")) == (
        Schedule("nightly", "0 3 * * *", "UTC"),
        Schedule("noon", "0 12 * * *", "Europe/Berlin"),
    )


@pytest.mark.parametrize(
    ("third", "field"),
    [
        (_daily(""), f"{_FIELD}[2].name"),
        (_daily("n" * 129), f"{_FIELD}[2].name"),
        (_daily("a\0b"), f"{_FIELD}[2].name"),
        (_daily("third", ""), f"{_FIELD}[2].cron"),
        (_daily("third", "0 3 * *"), f"{_FIELD}[2].cron"),
        (_daily("third", "0 0 30 2 *"), f"{_FIELD}[2].cron"),
        (_daily("third", timezone="Mars/Olympus"), f"{_FIELD}[2].timezone"),
        (_daily("first"), _FIELD),
    ],
)
def test_a_schedule_that_is_malformed_is_refused_by_its_field(
    third: pb.ScheduleDeclaration, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        _declare(_daily("first"), _daily("second"), third)
    assert refused.value.field == field


def test_a_thousand_schedules_are_taken_and_one_more_is_not() -> None:
    assert len(_declare(*(_daily(f"n{n}") for n in range(1_000)))) == 1_000
    with pytest.raises(InvalidArgument) as refused:
        _declare(*(_daily(f"n{n}") for n in range(1_001)))
    assert refused.value.field == _FIELD

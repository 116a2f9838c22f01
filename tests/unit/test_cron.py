"""When ticks come: cron lines in time zones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capsule_sidecar.model.cron import NEVER, check_schedule, latest_tick, next_tick
from capsule_sidecar.model.errors import InvalidArgument

_MINUTE = 60_000
_DAY = 1_440 * _MINUTE


def _ms(text: str) -> int:
    """Returns an ISO time, UTC unless it says otherwise, in milliseconds."""
    value = datetime.fromisoformat(text)
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)


def _iso(tick_ms: int) -> str:
    return datetime.fromtimestamp(tick_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def _ticks(cron: str, timezone: str, after: str, count: int) -> list[str]:
    found, at = [], _ms(after)
    for _ in range(count):
        at = next_tick(cron, timezone, at)
        found.append(_iso(at))
    return found


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "following"),
    [
        ("* * * * *", "UTC", "2026-03-01T10:00:00", "2026-03-01T10:01"),
        ("* * * * *", "UTC", "2026-03-01T10:00:59.999", "2026-03-01T10:01"),
        ("0 * * * *", "UTC", "2026-03-01T09:59:59.999", "2026-03-01T10:00"),
        ("30 9 * * MON-FRI", "UTC", "2026-03-06T09:30:00", "2026-03-09T09:30"),
        ("30 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00", "2026-01-01T08:30"),
        ("30 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00", "2026-07-01T07:30"),
        ("0 9 * * *", "Asia/Kolkata", "2026-07-01T00:00:00", "2026-07-01T03:30"),
        ("0 0 29 2 *", "UTC", "2026-03-01T00:00:00", "2028-02-29T00:00"),
        ("0 0 L * *", "UTC", "2026-02-01T00:00:00", "2026-02-28T00:00"),
        # Day of the month or of the week, unless one of them begins with a star.
        ("0 0 13 * FRI", "UTC", "2026-03-01T00:00:00", "2026-03-06T00:00"),
        ("0 0 */13 * FRI", "UTC", "2026-03-01T00:00:00", "2026-03-27T00:00"),
    ],
)
def test_a_tick_comes_when_the_clock_on_the_wall_says(
    cron: str, timezone: str, after: str, following: str
) -> None:
    assert _ticks(cron, timezone, after, 1) == [following]


def test_what_a_change_of_the_clocks_skips_comes_right_after_it_and_once() -> None:
    # In Berlin there was no time from 2 to 3 on 29 March 2026.
    assert _ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]
    assert _ticks("15,45 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30", 3) == [
        "2026-03-29T01:00",
        "2026-03-29T01:15",
        "2026-03-29T01:45",
    ]


def test_what_a_change_of_the_clocks_repeats_comes_once() -> None:
    # In Berlin the time from 2 to 3 came twice on 25 October 2026.
    assert _ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
    ]
    # Asked in the second of the two hours, it does not go back to the first.
    assert _ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", 1) == ["2026-10-26T01:30"]


def test_a_line_of_intervals_keeps_to_the_time_that_passes() -> None:
    assert _ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15", 3) == [
        "2026-03-29T00:30",
        "2026-03-29T01:00",
        "2026-03-29T01:30",
    ]
    assert _ticks("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 4) == [
        "2026-10-25T00:00",
        "2026-10-25T00:30",
        "2026-10-25T01:00",
        "2026-10-25T01:30",
    ]


_ZONES = ["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Africa/Casablanca"]
# Berlin's changes of 2026 lie within, and Havana's, which are at midnight.
_TIMES = st.integers(_ms("2026-01-01T00:00"), _ms("2027-01-01T00:00"))


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(1, high).map(lambda n: f"*/{n}"),
        number.map(str),
        st.lists(number, min_size=1, max_size=4).map(lambda ns: ",".join(map(str, ns))),
        st.tuples(number, number).map(lambda p: f"{min(p)}-{max(p)}"),
    )


_LINES = st.builds(
    lambda *fields: " ".join(fields),
    _field(0, 59),
    _field(0, 23),
    st.one_of(st.just("*"), _field(1, 28)),
    st.one_of(st.just("*"), _field(1, 12)),
    st.one_of(st.just("*"), _field(0, 7)),
)


@given(_LINES, st.sampled_from(_ZONES), _TIMES)
def test_the_next_tick_is_a_whole_minute_after_its_time(
    cron: str, timezone: str, after: int
) -> None:
    following = next_tick(cron, timezone, after)
    assert following > after
    assert following % _MINUTE == 0
    # Nothing lies between.
    assert next_tick(cron, timezone, (after + following) // 2) == following


@settings(deadline=None)
@given(
    _LINES,
    st.sampled_from(_ZONES),
    _TIMES,
    st.integers(0, 3 * _DAY),
)
@example("* * * * *", "UTC", _ms("2026-03-01T10:00"), _MINUTE)
@example("* * * * *", "UTC", _ms("2026-03-01T10:00"), 2 * _MINUTE)
@example("30 2 * * *", "Europe/Berlin", _ms("2026-10-24T12:00"), 3 * _DAY)
def test_the_latest_tick_is_the_last_of_a_slow_walk(
    cron: str, timezone: str, after: int, span: int
) -> None:
    until = after + span
    walked = None
    at = next_tick(cron, timezone, after)
    while at <= until:
        walked, at = at, next_tick(cron, timezone, at)
    assert latest_tick(cron, timezone, after, until) == (walked, at)


@pytest.mark.parametrize("cron", ["* * * * *", "* * * 1 *", "*/7 3 * * *", "0 0 29 2 *"])
def test_the_latest_tick_of_ten_years_is_found_without_walking_them(cron: str) -> None:
    after, until = _ms("2016-03-05T00:00"), _ms("2026-03-01T00:00")
    began = time.process_time()
    latest, following = latest_tick(cron, "America/New_York", after, until)
    # A walk of five million minutes takes longer than a minute.
    assert time.process_time() - began < 2
    assert latest is not None
    assert after < latest <= until < following
    assert next_tick(cron, "America/New_York", latest) == following


def test_one_tick_follows_another() -> None:
    at = _ms("2026-10-24T00:00")
    found = [at := next_tick("0 */2 * * *", "Europe/Berlin", at) for _ in range(40)]
    assert all(before < after for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "Bad minute"),
        ("* 24 * * *", "Bad hour"),
        ("* * 0 * *", "Bad day-of-month"),
        ("* * * 13 *", "Bad month"),
        ("* * * * 8", "Bad day-of-week"),
        ("*/0 * * * *", "Bad minute"),
        ("5-1 * * * *", "Bad minute"),
        ("a * * * *", "Bad minute"),
        ("²  * * * *", "ASCII"),
        ("*\n* * * *", "ASCII"),
        ("* * * * *\0", "ASCII"),
        ("1," * 200 + "1 * * * *", "256"),
    ],
)
def test_a_line_that_is_malformed_is_refused_and_says_how(cron: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as refused:
        check_schedule(cron, "UTC", "schedules[3]")
    assert refused.value.field == "schedules[3].cron"


@pytest.mark.parametrize(
    "cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 */29 2 MON#5", "0 0 * 2 */8#5"]
)
def test_a_line_that_never_comes_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_schedule(cron, "Europe/Berlin", "schedules[0]")
    assert refused.value.field == "schedules[0].cron"


def test_a_tick_that_does_not_come_within_fifty_years_is_never() -> None:
    assert next_tick("0 0 */29 2 MON#5", "UTC", _ms("2026-01-01T00:00")) == NEVER
    assert latest_tick("0 0 */29 2 MON#5", "UTC", 0, _ms("2026-01-01T00:00")) == (None, NEVER)


@pytest.mark.parametrize(
    "timezone",
    [
        "",
        "Mars/Olympus",
        "Europe",
        "Europe/",
        "../UTC",
        "/etc/localtime",
        "localtime",
        "posixrules",
        "right/UTC",
        "zone.tab",
        "leapseconds",
        "Europe/Berlin\0",
        "Z" * 300,
    ],
)
def test_a_time_zone_that_is_none_is_refused(timezone: str) -> None:
    with pytest.raises(InvalidArgument, match="time zone database") as refused:
        check_schedule("* * * * *", timezone, "schedules[0]")
    assert refused.value.field == "schedules[0].timezone"
    assert len(refused.value.message) < 200


@given(st.text(max_size=300), st.text(max_size=80))
def test_whatever_is_declared_is_taken_or_refused(cron: str, timezone: str) -> None:
    for line, zone in ((cron, "UTC"), ("* * * * *", timezone)):
        try:
            check_schedule(line, zone, "schedules[0]")
        except InvalidArgument:
            continue
        assert next_tick(line, zone, _ms("2026-01-01T00:00")) > 0


_SIGNS = st.text("0123456789*/,-#LW MONFRI", max_size=40)


@given(_SIGNS.map(lambda text: f"{text} * * * *"), _SIGNS)
def test_what_looks_like_a_line_is_taken_or_refused(begin: str, end: str) -> None:
    for line in (begin, f"0 0 {end}", f"0 0 * * {end}", f"0 0 {end} * *"):
        try:
            check_schedule(line, "Europe/Berlin", "schedules[0]")
        except InvalidArgument:
            continue

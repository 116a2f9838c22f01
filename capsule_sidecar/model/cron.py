"""When a schedule's ticks come: cron lines, as cron(8) of Debian has them, in a time zone.

A line with fixed hours keeps to the clock on the wall: what a change of the clocks skips comes
right after it, what it repeats comes once. A line whose minute or hour begins with a star keeps to
the time that passes. Times are Unix epoch milliseconds; a tick is always a whole minute.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from capsule_sidecar.model.errors import InvalidArgument

# In place of a tick that does not come within 50 years.
NEVER = 1 << 62

MAX_LINE = 256
MAX_TIMEZONE = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS = 60_000
# `posix/`, `right/` and `localtime` are how machines keep the database, not names of its zones.
_ZONE = re.compile(r"(?!posix|right/|localtime)[A-Za-z0-9][A-Za-z0-9_+/-]*")
_FIELDS = "minute, hour, day of the month, month and day of the week"


def check_schedule(cron: str, timezone: str, field: str) -> None:
    """Check that a line can be read and has a tick to come.

    It may read a file, once for each time zone.

    Args:
        cron: The line: five fields.
        timezone: A name of the time zone database.
        field: The declaration's path, whose fields are named in errors.

    Raises:
        InvalidArgument: The line is malformed, none of its times ever comes, or there is no such
            time zone.
    """
    try:
        zone = _zone(timezone)
    except ValueError as error:
        raise InvalidArgument(f"{field}.timezone", str(error)) from None
    try:
        first = _following(cron, zone, _now())
    except ValueError as error:
        raise InvalidArgument(f"{field}.cron", str(error)) from None
    if first == NEVER:
        raise InvalidArgument(f"{field}.cron", f"{cron!r} never comes")


def next_tick(cron: str, timezone: str, after_ms: int) -> int:
    """Return the first tick after a time; NEVER where none comes within 50 years.

    Args:
        cron: A line that was checked.
        timezone: Its time zone, checked.
        after_ms: The time, milliseconds since the Unix epoch.

    Raises:
        ValueError: They can no longer be read, as of a zone that this machine does not know.
    """
    return _following(cron, _zone(timezone), after_ms)


def latest_tick(cron: str, timezone: str, after_ms: int, until_ms: int) -> tuple[int | None, int]:
    """Return the latest tick after one time and not after another, and the one that follows.

    However long the time between the two is, some fifty ticks at the most are looked at.

    Args:
        cron: A line that was checked.
        timezone: Its time zone, checked.
        after_ms: Milliseconds since the Unix epoch.
        until_ms: The same, not before `after_ms`.

    Returns:
        The latest tick that is due, None where there is none, and the first after `until_ms`, or
        NEVER.

    Raises:
        ValueError: They can no longer be read.
    """
    zone = _zone(timezone)
    following = _following(cron, zone, until_ms)
    latest = _following(cron, zone, after_ms)
    if latest > until_ms:
        return None, following
    # What follows a time never comes before what follows an earlier one: search by halves.
    beyond = until_ms
    while beyond - latest >= _MINUTE_MS:
        middle = (latest + beyond) // 2
        found = _following(cron, zone, middle)
        if found > until_ms:
            beyond = middle
        else:
            latest = found
    return latest, following


def _following(cron: str, zone: ZoneInfo, after_ms: int) -> int:
    """Return the first tick after a time.

    Raises:
        ValueError: The line is malformed; says how.
    """
    if len(cron) > MAX_LINE:
        raise ValueError(f"has at most {MAX_LINE} characters")
    if not cron.isascii() or not cron.isprintable():
        raise ValueError("must be printable ASCII")
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"{cron!r} must have five fields: {_FIELDS}")
    after = (_EPOCH + timedelta(milliseconds=after_ms)).astimezone(zone)
    try:
        ticks = CronSim(" ".join(fields), after)
    except CronSimError as error:
        raise ValueError(f"{cron!r} is malformed: {error}") from None
    for tick in ticks:
        # By way of UTC: two times of one zone are compared by the wall.
        tick_ms = (tick.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
        # Inside an hour that comes twice it begins at the first of the two.
        if tick_ms > after_ms:
            return tick_ms
    return NEVER


def _zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: There is none of this name.
    """
    known = len(name) <= MAX_TIMEZONE and _ZONE.fullmatch(name)
    try:
        if known:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass  # not a name; a file that is no zone; a folder of zones
    raise ValueError(f"{name[:MAX_TIMEZONE]!r} is no name of the time zone database")


def _now() -> int:
    return (datetime.now(UTC) - _EPOCH) // timedelta(milliseconds=1)

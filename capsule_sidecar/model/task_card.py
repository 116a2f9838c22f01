"""The card of a task: the payload of the block `task`, which the sidecar keeps current."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from capsule_sidecar.model.blocks import Task

MAX_RESULT_BYTES = 8 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAITS = frozenset({"scheduled", "retrying"})


def task_card(
    *,
    task_id: str,
    name: str,
    status: str,
    message: str = "",
    progress: float | None = None,
    progress_message: str = "",
    result_json: bytes = b"",
    reference_id: str = "",
    reason: str = "",
    start_ms: int = 0,
    attempt: int = 0,
    failures: int = 0,
    retries: int = 0,
) -> bytes:
    """Make the payload of a task's card.

    What does not belong to the status is left out: a time to start where it has started, a result
    of what did not complete.

    Args:
        task_id: The task's id.
        name: What handles it.
        status: How far it is, as the payload says it: `running`, `timed_out` and so on.
        message: What the session was told about it. Empty: nothing.
        progress: How far it said it is, 0 to 1. None: it has not said.
        progress_message: What it said about it.
        result_json: What it returned: UTF-8 JSON, checked when it was reported, so that a value
            that no model of Python holds is kept as it is. Left out where it is `null`, or longer
            than `MAX_RESULT_BYTES`.
        reference_id: What a person can quote. Empty: it did not fail.
        reason: Why it did not complete. Empty: it did, or has not ended.
        start_ms: When it begins, or begins again, at the earliest, in milliseconds since the epoch.
        attempt: The attempt that runs or ran last; 0: none has begun.
        failures: Tries that failed.
        retries: How many failed tries are tried again.

    Returns:
        The payload: UTF-8 JSON, an object.

    Raises:
        ValueError: A value is none that the payload has.
    """
    fields: dict[str, Any] = {
        "task_id": task_id,
        "name": name,
        "message": message,
        "status": status,
        "progress": progress,
        "progress_message": progress_message,
        "reference_id": reference_id,
        "reason": reason,
        "start_time": _time(start_ms) if status in _WAITS else "",
    }
    given = {field: value for field, value in fields.items() if value not in ("", None)}
    given |= {"attempt": attempt, "failures": failures, "retries": retries}
    Task.model_validate(given)
    payload = json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()
    result = result_json.strip()
    if status != "completed" or result in {b"", b"null"} or len(result) > MAX_RESULT_BYTES:
        return payload
    return payload[:-1] + b',"result":' + result + b"}"


def _time(milliseconds: int) -> str:
    # Counted from the epoch: a float of seconds would lose the last digit here and there.
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"

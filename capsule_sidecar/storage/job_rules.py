"""The rules of work beside the lane: how long a try may take, and what follows a failed one."""

from __future__ import annotations

import random

from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import CancelReason, InvocationKind, InvocationStatus, Outcome
from capsule_sidecar.storage import values
from capsule_sidecar.storage.rows import InvocationRow, JobRow
from capsule_sidecar.storage.unit import Unit

# Later than any deadline: a task without a timeout has none.
NEVER_MS = 1 << 62
MAX_RESULT_BYTES = 1 << 20
_FIRST_BACKOFF_MS = 1_000
_LONGEST_BACKOFF_MS = 300_000


def deadline(unit: Unit, invocation: InvocationRow, job: JobRow | None) -> int:
    """Return when an attempt that begins now is to be over."""
    if job is None or invocation.kind != InvocationKind.TASK:
        return unit.now_ms + unit.terms.turn_deadline_ms
    return unit.now_ms + job.timeout_ms if job.timeout_ms else NEVER_MS


def judge(
    invocation: InvocationRow,
    job: JobRow,
    outcome: Outcome,
    status: InvocationStatus,
    reason: str,
) -> tuple[InvocationStatus, str]:
    """Return how an attempt ends a task, and keep what it returned.

    Args:
        invocation: The task's invocation.
        job: The task.
        outcome: What its handler reported.
        status: How any invocation would end by it.
        reason: Why.
    """
    if status == InvocationStatus.COMPLETED:
        result = outcome.result_json or b"null"
        if not _is_result(result):
            return InvocationStatus.FAILED, "INVALID_RESULT"
        job.result = result
        job.progress = 1.0 if job.progress is not None else None
    return timed_out(invocation, status), reason


def timed_out(invocation: InvocationRow, status: InvocationStatus) -> InvocationStatus:
    """Return a task's status, which tells a deadline that has passed from other failures."""
    late = invocation.cancel == CancelReason.DEADLINE
    if invocation.kind == InvocationKind.TASK and status == InvocationStatus.FAILED and late:
        return InvocationStatus.TIMED_OUT
    return status


def tries_again(job: JobRow, status: InvocationStatus, *, final: bool) -> bool:
    """Tell whether a try that ended so is followed by another."""
    failed = status in (InvocationStatus.FAILED, InvocationStatus.TIMED_OUT)
    if final and status == InvocationStatus.FAILED:
        return False
    return failed and job.failures < job.retries


def backoff_ms(failures: int) -> int:
    """Return how long to wait after so many failed tries: doubled each time, and spread."""
    whole = min(_FIRST_BACKOFF_MS << min(failures - 1, 20), _LONGEST_BACKOFF_MS)
    return int(whole * random.uniform(0.75, 1.0))  # noqa: S311 - spreads, guards nothing


def _is_result(value: bytes) -> bool:
    if len(value) > MAX_RESULT_BYTES:
        return False
    try:
        values.check_json(value, "result_json")
    except InvalidArgument:
        return False
    return True

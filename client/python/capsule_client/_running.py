"""The handler of a turn: which one it is, how it is called, and how it ended."""

from __future__ import annotations

import logging
import secrets

from capsule_client import _convert, _task_run, _web_form
from capsule_client._handlers import Handlers
from capsule_client._turn import Turn
from capsule_client._web_arguments import BadRequest
from capsule_client.errors import NotFound
from capsule_client.session import Session
from capsule_protocol.v1 import handler_service_pb2 as pb

_log = logging.getLogger("capsule")

_MAX_ERROR_TYPE = 200


async def run(turn: Turn, handlers: Handlers, outcome: pb.Outcome) -> None:
    """Runs the handler of a turn; what it answers goes into the outcome."""
    if turn.session is None:
        await _serve(turn, handlers, outcome)
    elif turn.invocation.HasField("task"):
        name = turn.invocation.task.name
        if name not in handlers.tasks:
            raise NotFound(f"this app has no task {name!r}")
        await _task_run.run(handlers.tasks[name], turn, turn.session, outcome)
    else:
        await _handle(turn, handlers, turn.session)


def fail(turn: Turn, outcome: pb.Outcome, error: BaseException) -> None:
    """Logs what a handler raised, and has the outcome say so."""
    reference = secrets.token_hex(6)
    invocation = turn.invocation
    what = f"task {invocation.task.name!r}" if invocation.HasField("task") else "turn"
    _log.error("%s %s failed, reference %s", what, turn.invocation_id, reference, exc_info=error)
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    outcome.status = pb.OUTCOME_STATUS_FAILED
    outcome.reference_id = reference
    outcome.error_type = f"{module}{kind.__qualname__}"[:_MAX_ERROR_TYPE]


def given_back(turn: Turn) -> pb.Outcome:
    """Returns how work ends that a process has begun and does not finish.

    A data or endpoint request is not begun a second time: who asks may have been half served. Of a
    task that must not be, the sidecar sees to it.
    """
    asked = turn.invocation.WhichOneof("kind") in ("data", "endpoint")
    return pb.Outcome(status=pb.OUTCOME_STATUS_CANCELLED if asked else pb.OUTCOME_STATUS_RELEASED)


async def _serve(turn: Turn, handlers: Handlers, outcome: pb.Outcome) -> None:
    """Answers a data or endpoint request."""
    invocation = turn.invocation
    assert turn.calls is not None
    if invocation.WhichOneof("kind") == "data":
        declared = handlers.data.get(invocation.data.name)
        request = invocation.data.request
    else:
        declared = handlers.endpoints.get(invocation.endpoint.route)
        request = invocation.endpoint.request
    if declared is None:
        raise NotFound("this app handles no such request")
    context = _web_form.context_of(request, invocation, turn.calls.db)
    asked = context.request
    given = asked.path_params.items() if declared.raw else asked.query_pairs
    try:
        answer = await declared.function(context, **declared.arguments(given))
    except BadRequest as error:  # an argument, or a body that the handler reads as JSON
        outcome.response.CopyFrom(_web_form.bad_request(error))
        return
    outcome.response.CopyFrom(_web_form.response_of(answer, raw=declared.raw))


async def _handle(turn: Turn, handlers: Handlers, session: Session) -> None:
    invocation = turn.invocation
    assert turn.calls is not None
    kind = invocation.WhichOneof("kind")
    if kind == "turn" and handlers.message is not None:
        message = _convert.message(invocation.turn.message, turn.calls.files)
        await handlers.message(session, message)
    elif kind == "action" and invocation.action.name in handlers.actions:
        action = _convert.action(invocation.action)
        await handlers.actions[action.name](session, action)
    elif kind == "schedule" and invocation.schedule.name in handlers.schedules:
        await handlers.schedules[invocation.schedule.name].function(session)
    elif kind == "enter" and handlers.enter is not None:
        await handlers.enter(session)
    elif kind == "exit" and handlers.exit is not None:
        await handlers.exit(session)
    else:
        raise NotFound(f"this app handles no {kind}")

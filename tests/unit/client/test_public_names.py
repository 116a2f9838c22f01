"""What `capsule_client` offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import capsule_client

NAMES = {
    "Action", "App", "ApprovalTimeout", "Attachment", "Block", "CapsuleError", "ChoiceTimeout",
    "Collection", "Conflict", "Database", "FileUpload", "FileUploadTimeout", "Found",
    "InvalidArgument", "LimitExceeded", "Message", "NoReplyTarget", "NoSession", "NotFound",
    "PermissionDenied", "ReplyStream", "Request", "RequestContext", "Response", "Session",
    "SessionChannel", "SessionData", "Stopped", "Superseded", "Task", "TaskFailed", "TaskFunction",
    "TaskHandle", "TaskInfo", "Unavailable", "UpdateResult", "UserInfo", "current_session",
    "current_task",
}  # fmt: skip

SESSION = {
    "attempt", "channel", "chat_messages", "data", "db", "delete", "get", "history", "id",
    "increment", "notify", "prompt_approval", "prompt_choice", "prompt_file", "reply", "set",
    "set_title", "show", "show_image", "show_step", "show_suggestions", "show_task", "stream",
    "stream_reply", "stream_reply_from", "user",
}  # fmt: skip

APP = {
    "action", "attached", "boot", "collection", "data", "endpoint", "enter", "exit", "message",
    "name", "run", "schedule", "serve", "serve_process", "shutdown", "task",
}  # fmt: skip


def _public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_the_package_offers_these_names_and_no_others() -> None:
    assert set(capsule_client.__all__) == NAMES
    assert all(hasattr(capsule_client, name) for name in NAMES)


def test_session_and_app_offer_these_names_and_no_others() -> None:
    assert _public(capsule_client.Session) == SESSION
    assert _public(capsule_client.App) == APP


def test_importing_the_package_loads_neither_grpc_nor_protobuf() -> None:
    code = "import sys, capsule_client; print([m for m in ('grpc', 'google') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_prompt_that_runs_out_is_a_timeout_error_too() -> None:
    for kind in (
        capsule_client.ApprovalTimeout,
        capsule_client.ChoiceTimeout,
        capsule_client.FileUploadTimeout,
    ):
        error = kind("late", reason="EXPIRED")
        assert isinstance(error, TimeoutError)
        assert (str(error), error.reason) == ("late", "EXPIRED")


def test_every_error_is_a_capsule_error() -> None:
    errors = [
        thing
        for name in NAMES
        if isinstance(thing := getattr(capsule_client, name), type) and issubclass(thing, Exception)
    ]
    assert len(errors) == 15
    assert all(issubclass(error, capsule_client.CapsuleError) for error in errors)

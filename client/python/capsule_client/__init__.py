"""The Capsule client: write the handlers of a conversational app.

>>> import capsule_client as capsule
>>> app = capsule.App("support")
>>> @app.message()
... async def handle(session: capsule.Session, msg: capsule.Message) -> None:
...     await session.reply(f"You said: {msg.text}")
"""

from capsule_client._context import current_session
from capsule_client.app import App
from capsule_client.collections import Collection, Database, Found, UpdateResult
from capsule_client.data import SessionData
from capsule_client.errors import (
    ApprovalTimeout,
    CapsuleError,
    ChoiceTimeout,
    Conflict,
    FileUploadTimeout,
    InvalidArgument,
    LimitExceeded,
    NoReplyTarget,
    NoSession,
    NotFound,
    PermissionDenied,
    Stopped,
    Superseded,
    TaskFailed,
    Unavailable,
)
from capsule_client.reply_stream import ReplyStream
from capsule_client.session import Session
from capsule_client.tasks import Task, TaskFunction, TaskHandle, current_task
from capsule_client.types import (
    Action,
    Attachment,
    Block,
    FileUpload,
    Message,
    SessionChannel,
    TaskInfo,
    UserInfo,
)
from capsule_client.web import Request, RequestContext, Response

__all__ = [
    "Action",
    "App",
    "ApprovalTimeout",
    "Attachment",
    "Block",
    "CapsuleError",
    "ChoiceTimeout",
    "Collection",
    "Conflict",
    "Database",
    "FileUpload",
    "FileUploadTimeout",
    "Found",
    "InvalidArgument",
    "LimitExceeded",
    "Message",
    "NoReplyTarget",
    "NoSession",
    "NotFound",
    "PermissionDenied",
    "ReplyStream",
    "Request",
    "RequestContext",
    "Response",
    "Session",
    "SessionChannel",
    "SessionData",
    "Stopped",
    "Superseded",
    "Task",
    "TaskFailed",
    "TaskFunction",
    "TaskHandle",
    "TaskInfo",
    "Unavailable",
    "UpdateResult",
    "UserInfo",
    "current_session",
    "current_task",
]

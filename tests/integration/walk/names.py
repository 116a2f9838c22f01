"""The names that the session's document promises, copied from it, in its order.

`test_names.py` fails for one that no test of the walk is for.
"""

from __future__ import annotations

# What is not a name of the API stands as a sentence's words.
PROMISED: dict[str, tuple[str, ...]] = {
    "A handler, whole": (
        "the example", "App.collection", "App.task", "App.message", "App.run", "CAPSULE_ADDRESS",
        "SIGTERM", "capsule-client run", "--reload",
    ),
    "Session": (
        "Session.id", "Session.user", "Session.channel", "Session.history", "Session.data",
        "Session.integrations", "Session.db", "Session.attempt",
        "data forms", "data of two writers", "Session.data.flush", "data not JSON",
        "Session.get", "Session.set", "Session.delete", "Session.increment",
    ),
    "Text": (
        "Session.reply", "Session.notify", "Session.stream", "Session.stream_reply",
        "ReplyStream.write", "ReplyStream.text", "Session.stream_reply_from",
        "chunks of str", "chunks of None", "chunks of OpenAI chat completions",
        "chunks of OpenAI responses", "chunks of Anthropic messages", "chunks of LangChain",
        "chunks of Google GenAI", "cumulative", "BAML's own type", "a delta is never interpreted",
        "interrupted", "Session.chat_messages",
    ),
    "Structured UI": (
        "Session.show", "Session.show_task", "Session.show_integration", "Session.show_image",
        "Session.prompt_file", "Session.prompt_integration", "Session.require_integration",
        "Session.prompt_approval", "Session.prompt_choice", "Session.show_suggestions",
        "Session.show_step", "Session.set_title",
        "a prompt outlives a reload", "a prompt outlives a restart of the sidecar",
        "a prompt outlives a dropped handler connection", "a prompt outlives a re-delivery",
        "a prompt blocks only its own lane", "a prompt is withdrawn by Stop",
    ),
    "Where there is no reply target": (
        "a schedule's session", "a task's session without one", "owner", "NoReplyTarget",
        "NoSession", "current_session",
    ),
    "RequestContext": (
        "App.data", "App.endpoint", "RequestContext.user", "RequestContext.integrations",
        "RequestContext.authenticated", "RequestContext.request", "RequestContext.db",
        "Request.method", "Request.path", "Request.query", "Request.headers", "Request.body",
        "query parameters", "return values", "Response.status", "Response.headers",
        "Response.body", "access=authenticated", "authorized=True", "identity headers",
    ),
    "Message, Attachment, FileUpload, Block, UserInfo, SessionChannel": (
        "Message", "Attachment",
        "Message.text", "Message.sender", "Message.channel_type", "Message.timestamp",
        "Message.attachments", "Message.id", "Attachment.name", "Attachment.content_type",
        "Attachment.url", "Attachment.size", "Attachment.id", "Attachment.download",
        "Attachment.read", "FileUpload", "FileUpload.path", "FileUpload.download",
        "FileUpload.read", "Block", "UserInfo", "UserInfo.id", "UserInfo.email",
        "UserInfo.org_id", "UserInfo.owner_id", "SessionChannel", "SessionChannel.type",
    ),
    "Collections": (
        "indexes", "Collection.insert_one", "Collection.insert_many", "Collection.find_one",
        "Collection.find", "find sort", "find limit", "find skip", "Collection.update_one",
        "Collection.update_many", "Collection.delete_one", "Collection.delete_many",
        "Collection.count", "Collection.distinct", "upsert=True", "async for", "dotted paths",
        "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$and", "$or", "$not",
        "$all", "$size", "$contains", "$startswith", "$endswith", "mixed comparison",
        "$set", "$unset", "$inc", "$push", "$pull", "$addToSet", "$min", "$max",
        "unknown operator", "not JSON in a collection", "document fields",
    ),
    "Tasks and schedules": (
        "App.task(retries=)", "App.task(timeout=)", "App.task(lock=)", "App.task(retry_for=)",
        "App.task(redeliver=)", "Task.submit", "Task.schedule", "TaskHandle.id",
        "TaskHandle.status", "TaskHandle.result", "TaskHandle.cancel", "Task.find", "Task.count",
        "Task.cancel", "current_task", "progress", "scheduled", "pending", "running", "retrying",
        "completed", "failed", "cancelled", "timed_out", "backoff with jitter", "lost leases",
        "a task runs inline", "App.schedule", "one tick", "the latest missed tick",
    ),
    "Lifecycle": (
        "App.boot", "App.shutdown", "App.enter", "App.exit", "exit on expiry", "App.action",
        "Action.name", "Action.block_id", "Action.payload", "the lane", "tasks beside the lane",
        "data beside the lane", "App(concurrency=)", "a handler exception",
    ),
    "Errors": (
        "CapsuleError", "IntegrationTimeout", "FileUploadTimeout", "ApprovalTimeout",
        "ChoiceTimeout", "IntegrationDeclined", "Superseded", "Stopped", "NotFound",
        "InvalidArgument", "PermissionDenied", "Conflict", "LimitExceeded", "Unavailable",
        "__cause__",
    ),
}  # fmt: skip

# Sign-in and integrations are built by a later issue; with it, these leave the list.
INTEGRATIONS = frozenset({
    "Session.integrations", "Session.show_integration", "Session.prompt_integration",
    "Session.require_integration", "RequestContext.integrations", "IntegrationTimeout",
    "IntegrationDeclined",
})  # fmt: skip

# What is promised and not there yet, each with the reason.
MISSING: dict[str, str] = {}

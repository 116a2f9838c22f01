"""The document of the HTTP interface against the sidecar that serves it, by Schemathesis.

Every operation is called with data that the document allows and with data that it does not:
answers must be of the statuses, types and schemas that it names, what it allows must be taken and
what it does not must be refused.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from capsule_protocol.v1 import session_service_pb2
from tests.support.http import Browser, operations, served
from tests.support.sidecar import BareHandler, SidecarProcess, request_id
from tests.support.turns import work_of
from tests.support.work import of

EXAMPLES = 8
# A seed that is given finds the same on each run; `make test` must not fail by chance.
SEED = 7
# No limit of rates is met: what the document allows must be taken.
ENVIRONMENT = {
    f"CAPSULE_LIMITS__{name}_PER_MINUTE": "1000000"
    for name in ("MESSAGES", "SESSIONS", "GUESTS", "CHANGES", "UPLOADS", "REQUESTS")
} | {"CAPSULE_LIMITS__WAITING_MESSAGES": "1000000"}

CONFIGURATION = """
[parameters]
"path.app" = "support"
"path.session_id" = "{session}"
# One that has ended: whatever answers it is told how.
"path.prompt_id" = "{prompt}"
"path.name" = "{asset}"
# Made by the sidecar; what is none is refused (test_http_bad_input).
"query.page_token" = ""
# A file's address is good as it was signed, and only so (test_files_http).
"header.Range" = "bytes=1-2"
"path.file_id" = "{file}"
"query.expires" = "{expires}"
"query.signature" = "{signature}"

# The cookie is sent with every case; who may do what without it has a matrix of its own.
[generation]
with-security-parameters = false

[checks.ignored_auth]
enabled = false

# A Stop may name what there is not; a request id may come again with other content.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "307", "404", "409"]

# The document cannot say that a form's name comes before its file (test_files_http).
[[operations]]
include-operation-id = "uploadFile"

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "409"]
"""


def no_end(name: str) -> bool:
    """Whether an operation streams until its reader goes: there would be no answer to look at."""
    return any(op.name == name and op.media == "text/event-stream" for op in operations())


async def dismissed(me: Browser, handler: BareHandler, sent: dict[str, Any]) -> str:
    """Returns a prompt of a turn that was dismissed."""
    work = await work_of(handler, sent["invocation_id"])
    request = session_service_pb2.PromptApprovalRequest(
        **of(work, request_id=request_id(), message="Really?")
    )
    result = await handler.result(await handler.command(prompt_approval=request))
    prompt = str(result.prompt_approval.prompt.prompt_id)
    answer = await me.post(f"/prompts/{prompt}/answer", dismissed=True)
    assert answer.status_code == 200, answer.text
    return prompt


@pytest.mark.deadline(300)
async def test_the_sidecar_does_what_its_document_says(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path / "home", environment=ENVIRONMENT) as sidecar:
        running = await sidecar.start()
        async with BareHandler(running) as handler, Browser(running) as me:
            await handler.attach()
            session = await me.open("a title")
            prompt = await dismissed(me, handler, await me.say(session, "hello"))
            page = await me.http.get("/apps/support")
            asset = page.text.partition('src="/assets/')[2].partition('"')[0] or "none"
            settings = tmp_path / "schemathesis.toml"
            file = await me.upload(b"data")
            signed = httpx.URL(file["url"]).params
            settings.write_text(
                CONFIGURATION.format(
                    session=session, asset=asset, prompt=prompt, file=file["file_id"], **signed
                )
            )
            done = await _schemathesis(settings, running.http, me.token)
        assert "Traceback" not in sidecar.log.decode(), sidecar.log.decode()
    assert done[0] == 0, done[1]


async def _schemathesis(settings: Path, http: str, token: str) -> tuple[int | None, str]:
    left_out = [op.name for op in operations() if no_end(op.name)] + [
        "signOut", "deleteSession", "deleteFile",  # what the others need
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings),
        "run", f"{http}/openapi.json", "--header", f"Cookie: capsule_support={token}",
        "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES),
        "--seed", str(SEED), "--generation-database", "none", "--no-color",
        "--suppress-health-check", "all",
        *[part for name in left_out for part in ("--exclude-operation-id", name)],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=settings.parent,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return process.returncode, output.decode()


async def test_every_operation_is_in_the_document_and_it_is_openapi(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        answer: httpx.Response = await me.http.get("/openapi.json")
        shown = answer.json()
    assert shown["openapi"].startswith("3.1")
    named = {
        operation["operationId"]: (method.upper(), path)
        for path, methods in shown["paths"].items()
        for method, operation in methods.items()
    }
    pages = {"getApps", "getPage", "getPageBySlash", "getAsset", "getIcon"}
    assert named == {
        op.name: (op.method, op.path.replace(":path}", "}"))
        for op in operations()
        if op.name not in pages
    }
    passed = {op.name for op in operations() if op.passed}
    for schema in shown["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
        assert schema, "a schema that allows anything"
    for methods in shown["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                jsonschema_rs.meta.validate(parameter["schema"])
            for status, response in operation["responses"].items():
                if operation["operationId"] in passed:
                    assert set(response["content"]) == {"application/problem+json", "*/*"}
                elif status >= "400" and operation["operationId"] != "getReadiness":
                    assert list(response["content"]) == ["application/problem+json"]

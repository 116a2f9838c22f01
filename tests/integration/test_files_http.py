"""Files over HTTP: up in one part of a form, down by a signed address."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.support.http import Browser, problem, served


async def test_a_file_comes_down_as_it_went_up(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(data, "år.png", "image/png")
        assert (file["name"], file["content_type"], file["size"]) == (
            "år.png", "image/png", str(len(data)),
        )  # fmt: skip
        assert file["url"].startswith(f"{running.http}/files/{file['file_id']}/")
        answer = await me.http.get(file["url"])
        assert answer.content == data
        assert answer.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
        described = (await me.get(f"/files/{file['file_id']}")).json()["file"]
        assert described["sha256"] == file["sha256"]

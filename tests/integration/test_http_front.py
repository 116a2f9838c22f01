"""What every request goes through: other sites, other hosts, headers and ids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.test_http_guests import cookie_of
from tests.support.http import Browser, Line, operations, path_of, problem, served

PUBLIC = {"public_url": "https://chat.example.com", "hosts": ["other.example.com"]}
OWN = "http://HOST"


SITES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"sec-fetch-site": "same-origin"}, True),
    ({"sec-fetch-site": "none"}, True),
    ({"sec-fetch-site": "same-site"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
    ({"sec-fetch-site": ""}, False),
    ({"sec-fetch-site": "Same-Origin, cross-site"}, False),
    ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, True),
    ({"sec-fetch-site": "cross-site", "origin": OWN}, False),
    ({"origin": OWN}, True),
    ({"origin": OWN.upper()}, True),
    ({"origin": "https://chat.example.com"}, True),
    ({"origin": "https://chat.example.com.evil.example"}, False),
    ({"origin": "https://evil.example"}, False),
    ({"origin": "null"}, False),
    ({"origin": ""}, False),
    ({"origin": "http://127.0.0.1:1"}, False),
    ({"origin": "http://user@HOST"}, False),
    ({"origin": "HOST"}, False),
    ({"origin": "//HOST"}, False),
    ({"origin": "http://["}, False),
    ({"origin": "http://[::1"}, False),
    ({"origin": "file://HOST"}, False),
    ({"origin": f"{OWN} {OWN}"}, False),
]


async def test_pages_of_other_sites_change_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, web=PUBLIC) as (running, _), Browser(running) as me:
        host = running.http.removeprefix("http://")
        for headers, taken in SITES:
            first = await me.post("/sessions", title="mine")
            session = first.json()["session"]["session_id"]
            # It is Secure, and this is no https; that is not what is looked at here.
            me.http.headers["cookie"] = f"capsule_support={cookie_of(first).value}"
            given = {
                name: value.replace("HOST", host.upper() if value.isupper() else host)
                for name, value in headers.items()
            }
            changing = [
                ("POST", f"{me.v1}/sessions", {}),
                ("POST", f"{me.v1}/sessions/{session}/messages", {"text": "t"}),
                ("PATCH", f"{me.v1}/sessions/{session}", {"title": "theirs"}),
                ("POST", f"{me.root}/auth/guest", None),
                ("DELETE", f"{me.v1}/sessions/{session}", None),
                ("POST", f"{me.root}/auth/sign-out", None),
            ]
            for method, path, body in changing:
                answer = await me.http.request(method, path, json=body, headers=given)
                if taken:
                    assert answer.is_success, (headers, path, answer.text)
                else:
                    problem(answer, 403, "CROSS_SITE")
            if not taken:
                page = await me.timeline(session)
                assert page["session"]["title"] == "mine"
                assert "items" not in page
            # Reading is not changing; a browser shows it to no other origin.
            read = await me.http.get(f"{me.v1}/config", headers=given)
            assert read.status_code == 200
            assert "access-control-allow-origin" not in read.headers
            del me.http.headers["cookie"]


HOSTS = {
    "HOST": True,
    "127.0.0.1": True,
    "localhost:9": True,
    "LocalHost": True,
    "localhost.": True,
    "[::1]:80": True,
    "chat.example.com": True,
    "chat.example.com:443": True,
    "other.example.com": True,
    "": False,
    "evil.example": False,
    "127.0.0.1.evil.example": False,
    "localhost.evil.example": False,
    "evil.example:7480": False,
    "localhost:evil": False,
    "localhost:1:2": False,
    "localhost..": False,
    "localhost/": False,
    "localhost@evil.example": False,
    "[::1": False,
    "[::1]evil.example": False,
    "[::2]": False,
    "::1": False,
    "0.0.0.0": False,
    "127.1": False,
    "localhost, evil.example": False,
    "localhost\tevil": False,
}


async def test_requests_for_other_hosts_are_refused_whatever_they_ask(tmp_path: Path) -> None:
    """A name that an attacker points at this machine must not reach it."""
    async with served(tmp_path, web=PUBLIC) as (running, _):
        for host, taken in HOSTS.items():
            for path in ("/healthz", "/metrics", "/apps/support/v1/config", "/openapi.json"):
                async with Line(running) as line:
                    await line.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
                    answer = await line.answer()
                assert answer.status == (200 if taken else 421), (host, path)
                if not taken:
                    assert answer.reason == "UNKNOWN_HOST"
        async with Line(running) as line:
            await line.send("GET /healthz HTTP/1.0\r\n\r\n")
            assert (await line.answer()).status == 421
        async with Line(running) as line:
            await line.send("GET /healthz HTTP/1.1\r\n\r\n")
            assert (await line.answer()).status in (400, 421)


async def test_every_response_says_what_a_browser_may_do_with_it(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        for operation in operations():
            path = path_of(operation, session=session)
            if operation.media == "text/event-stream":
                continue
            for headers in ({}, {"host": "evil.example"}):
                answer = await me.http.request(operation.method, path, headers=headers)
                seen = answer.headers
                assert seen["x-content-type-options"] == "nosniff", path
                assert seen["x-frame-options"] == "DENY"
                assert seen["referrer-policy"] == "no-referrer"
                assert seen["cross-origin-resource-policy"] == "same-origin"
                assert "default-src 'none'" in seen["content-security-policy"]
                assert "frame-ancestors 'none'" in seen["content-security-policy"]
                assert "unsafe" not in seen["content-security-policy"]
                assert re.fullmatch(r"req_[0-9a-z]{26}", seen["x-request-id"])
                assert "server" not in seen
                assert "access-control-allow-origin" not in seen
                if operation.name not in ("getPage", "getAsset", "getIcon"):
                    assert seen["cache-control"] == "no-store", path


async def test_the_page_runs_its_own_scripts_alone_and_its_files_are_kept_forever(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        page = await me.http.get("/apps/support")
        if page.status_code == 404:
            pytest.skip("the chat page was not built")
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "img-src 'self' data:;" in policy
        assert "sandbox" not in policy
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>" not in page.text
        assert not re.search(r"\son\w+=|style=", page.text)
        assets = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
        assert any(re.search(r"-[\w-]{8}\.\w+$", path) for path in assets)
        for path in assets:
            for coding in ("gzip", "identity"):
                asset = await me.http.get(path, headers={"accept-encoding": coding})
                assert asset.status_code == 200
                forever = re.search(r"-[\w-]{8}\.\w+$", path)  # its name holds its digest
                assert asset.headers["cache-control"] == (
                    "public, max-age=31536000, immutable" if forever else "no-cache"
                )
                assert asset.headers["x-content-type-options"] == "nosniff"
                assert asset.headers["vary"] == "accept-encoding"
            problem(await me.http.get(f"{path}.gz"), 404, "NOT_FOUND")
        unknown = await me.http.get("/apps/unknown")  # the page says so itself
        assert (unknown.status_code, unknown.text) == (404, page.text)


async def test_a_request_id_that_is_sane_is_given_back_and_any_other_replaced(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        for given in ("abc", "a.b-c_d:1", "x" * 64):
            answer = await me.http.get("/healthz", headers={"x-request-id": given})
            assert answer.headers["x-request-id"] == given
            refused = await me.http.get("/nowhere", headers={"x-request-id": given})
            assert problem(refused, 404, "NOT_FOUND")["request_id"] == given
        for given in ("", "x" * 65, "a b", "a<b>", "é", "%0d%0a"):
            header = {"x-request-id": given.encode("latin-1")}
            answer = await me.http.get("/healthz", headers=header)  # type: ignore[arg-type]  # bytes are sent as they are
            assert answer.headers["x-request-id"].startswith("req_")

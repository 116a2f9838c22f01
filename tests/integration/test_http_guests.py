"""Guests: how a browser is signed in, for how long, and to which app."""

from __future__ import annotations

import sqlite3
import time
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import httpx

from tests.support.http import APP, Browser, problem, served
from tests.support.sidecar import BareHandler, SidecarProcess

TWO = {"alpha": {"host": "alpha.test"}, "beta": {}, "closed": {"sign_in": []}}


def cookie_of(response: httpx.Response, app: str = APP) -> Morsel[str]:
    """Returns the one cookie that a response sets."""
    (header,) = response.headers.get_list("set-cookie")
    (morsel,) = SimpleCookie(header).values()
    assert morsel.key == f"capsule_{app}"
    return morsel


async def test_a_guest_gets_a_cookie_that_scripts_and_other_sites_do_not_get(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        problem(await me.http.get(f"{me.root}/auth/user"), 401, "UNAUTHENTICATED")
        signed = await me.http.post(f"{me.root}/auth/guest")
        assert signed.status_code == 201
        assert signed.json()["method"] == "guest"
        cookie = cookie_of(signed)
        assert cookie["httponly"]
        assert cookie["samesite"].lower() == "lax"
        assert cookie["path"] == "/apps/support"
        assert cookie["max-age"] == str(90 * 86_400)
        assert not cookie["secure"]  # the sidecar's own address is http
        assert not cookie["domain"]
        assert len(cookie.value) >= 43  # 256 bits
        again = await me.http.post(f"{me.root}/auth/guest")
        assert (again.status_code, again.json()) == (200, signed.json())
        asked = await me.http.get(f"{me.root}/auth/user")
        assert asked.json() == signed.json()
        # A page that is opened again prolongs the browser's memory too.
        for response in (again, asked):
            assert cookie_of(response).value == cookie.value
            assert cookie_of(response)["max-age"] == cookie["max-age"]


async def test_behind_https_the_cookie_is_secure(tmp_path: Path) -> None:
    web = {"public_url": "https://chat.example.com"}
    async with served(tmp_path, web=web) as (running, _), Browser(running) as me:
        assert cookie_of(await me.http.post(f"{me.root}/auth/guest"))["secure"]
        assert cookie_of(await me.http.post(f"{me.root}/auth/sign-out"))["secure"]


async def test_opening_a_session_signs_a_guest_in(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        opened = await me.post("/sessions", title="first")
        assert opened.status_code == 201
        assert cookie_of(opened)["httponly"]
        assert [s["title"] for s in (await me.get("/sessions")).json()["sessions"]] == ["first"]
        # What is refused signs nobody in.
        async with Browser(running) as other:
            refused = await other.post("/sessions", title=7)
            problem(refused, 400, "INVALID_ARGUMENT")
            assert not other.token


async def test_signing_out_ends_the_sign_in_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        token = me.token
        out = await me.http.post(f"{me.root}/auth/sign-out")
        assert (out.status_code, out.content) == (204, b"")
        assert cookie_of(out)["max-age"] == "0"
        assert not me.token
        me.http.cookies.set("capsule_support", token)  # kept by whoever copied it
        problem(await me.get("/sessions"), 401, "UNAUTHENTICATED")
        assert (await me.http.post(f"{me.root}/auth/sign-out")).status_code == 204


FORGED = ("", "x", "A" * 43, "\"'; --", "a" * 3000, "\\303\\251", "é")


async def test_a_forged_cookie_is_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        for token in FORGED:
            header = {"cookie": f"capsule_support={token}".encode("latin-1")}
            for path in ("/auth/user", "/v1/sessions", "/v1/events"):
                refused = await me.http.get(me.root + path, headers=header)  # type: ignore[arg-type]  # bytes are sent as they are
                problem(refused, 401, "UNAUTHENTICATED")


async def test_apps_of_one_origin_are_signed_in_to_one_by_one(tmp_path: Path) -> None:
    async with served(tmp_path, apps=TWO, attach=False) as (running, _):
        async with Browser(running, "alpha") as alpha, Browser(running, "beta") as beta:
            await alpha.sign_in()
            beta.http.cookies = alpha.http.cookies
            problem(await beta.get("/sessions"), 401, "UNAUTHENTICATED")
            beta.http.cookies.set("capsule_beta", alpha.token, path="/apps/beta")
            problem(await beta.get("/sessions"), 401, "UNAUTHENTICATED")
            assert (await alpha.get("/sessions")).status_code == 200


async def test_an_app_that_lets_no_guests_in_has_none(tmp_path: Path) -> None:
    async with served(tmp_path, apps=TWO, attach=False) as (running, _):
        async with Browser(running, "closed") as me:
            assert (await me.get("/config")).json()["sign_in"] == []
            for answer in (
                await me.http.post(f"{me.root}/auth/guest"),
                await me.post("/sessions"),
                await me.get("/sessions"),
            ):
                problem(answer, 401, "UNAUTHENTICATED")
                assert "set-cookie" not in answer.headers


async def test_an_app_that_lets_no_guests_in_any_more_ends_their_sign_ins(tmp_path: Path) -> None:
    async with served(tmp_path, apps={APP: {}}) as (running, _), Browser(running) as me:
        session = await me.open()
        cookie = f"capsule_{APP}={me.token}"
    closed: dict[str, dict[str, list[str]]] = {APP: {"sign_in": []}}
    async with served(tmp_path, apps=closed, attach=False) as (running, _), Browser(running) as me:
        me.http.headers["cookie"] = cookie
        for answer in (
            await me.http.get(f"{me.root}/auth/user"),
            await me.http.post(f"{me.root}/auth/guest"),
            await me.get(f"/sessions/{session}"),
            await me.get("/events"),
            await me.post("/sessions"),
            await me.post(f"/sessions/{session}/messages", text="still here"),
        ):
            problem(answer, 401, "UNAUTHENTICATED")


async def test_a_host_of_its_own_serves_that_app_alone(tmp_path: Path) -> None:
    async with served(tmp_path, apps=TWO, attach=False) as (running, _):
        async with Browser(running, "alpha") as alpha, Browser(running, "beta") as beta:
            for host in ("alpha.test", "ALPHA.test:8080", "alpha.test."):
                own = {"host": host}
                assert (await alpha.http.get(f"{alpha.v1}/config", headers=own)).is_success
                problem(await beta.http.get(f"{beta.v1}/config", headers=own), 404, "NOT_FOUND")
                page = await beta.http.get("/apps/beta", headers=own)
                assert page.status_code == 404
                front = await alpha.http.get("/", headers=own)
                assert (front.status_code, front.headers["location"]) == (307, "/apps/alpha")
            assert (await beta.get("/config")).is_success
            for name in ("gamma", "Alpha", "alpha%00", "%2e%2e", "a" * 200):
                problem(await alpha.http.get(f"/apps/{name}/v1/config"), 404, "NOT_FOUND")


async def test_looking_for_apps_makes_none(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        for path in ("/apps/ghost", "/apps/ghost/v1/config"):
            assert (await me.http.get(path)).status_code == 404
        problem(await me.http.post("/apps/ghost/auth/guest"), 404, "NOT_FOUND")
        problem(await me.http.post("/apps/ghost/v1/sessions", json={}), 404, "NOT_FOUND")
        assert (await me.http.get("/")).status_code == 307  # still the only one


async def test_one_address_becomes_only_so_many_guests_a_minute(tmp_path: Path) -> None:
    web = {"trusted_proxies": ["127.0.0.1"]}
    limits = {"guests_per_minute": 2}
    async with served(tmp_path, limits=limits, web=web) as (running, _):

        async def sign_in(address: str) -> httpx.Response:
            async with Browser(running, headers={"x-forwarded-for": address}) as me:
                return await me.http.post(f"{me.root}/auth/guest")

        for _ in range(2):
            assert (await sign_in("192.0.2.1")).status_code == 201
        refused = await sign_in("192.0.2.1")
        problem(refused, 429, "RATE_LIMITED")
        assert 0 < int(refused.headers["retry-after"]) <= 30
        assert "set-cookie" not in refused.headers
        assert (await sign_in("192.0.2.2")).status_code == 201
        # Of IPv6 one visitor has a whole network.
        for host in ("1", "2"):
            assert (await sign_in(f"2001:db8:0:1::{host}")).status_code == 201
        problem(await sign_in("2001:db8:0:1:ffff::3"), 429, "RATE_LIMITED")
        assert (await sign_in("2001:db8:0:2::1")).status_code == 201
        async with Browser(running, headers={"x-forwarded-for": "192.0.2.1"}) as me:
            problem(await me.post("/sessions"), 429, "RATE_LIMITED")


async def test_messages_and_sessions_are_limited_by_the_minute(tmp_path: Path) -> None:
    limits = {"messages_per_minute": 2, "sessions_per_minute": 1}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        session = await me.open()
        problem(await me.post("/sessions"), 429, "RATE_LIMITED")
        await me.say(session, "one")
        await me.say(session, "two")
        refused = await me.post(f"/sessions/{session}/messages", text="three")
        problem(refused, 429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) > 0


async def test_sign_ins_outlive_a_restart_and_the_database_holds_no_token(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with BareHandler(running) as handler, Browser(running) as me:
            await handler.attach()
            session = await me.open("kept")
            token = me.token
            await sidecar.kill()
            assert not files_with(tmp_path, token)
            assert token not in sidecar.log.decode()
            with sqlite3.connect(tmp_path / "capsule.db") as database:
                assert database.execute("SELECT count(*) FROM logins").fetchone() == (1,)
            await sidecar.start()
            assert (await me.timeline(session))["session"]["title"] == "kept"
            # Used again after days, the sign-in's time begins anew; when it is over, it is over.
            now = time.time_ns() // 1_000_000
            await _set_times(sidecar, tmp_path, now - 80 * 86_400_000, now + 10 * 86_400_000)
            await me.timeline(session)
            await sidecar.end()
            with sqlite3.connect(tmp_path / "capsule.db") as database:
                (expire,) = database.execute("SELECT expire_ms FROM logins").fetchone()
            assert expire - now > 89 * 86_400_000
            await _set_times(sidecar, tmp_path, now - 91 * 86_400_000, now - 1000)
            problem(await me.get("/sessions"), 401, "UNAUTHENTICATED")


def files_with(folder: Path, text: str) -> list[Path]:
    """Returns the files that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if text.encode() in path.read_bytes()]


async def _set_times(sidecar: Any, home: Path, seen: int, expire: int) -> None:
    await sidecar.kill()
    database = sqlite3.connect(home / "capsule.db")
    database.execute("UPDATE logins SET seen_ms = ?, expire_ms = ?", (seen, expire))
    database.commit()
    database.close()
    await sidecar.start()

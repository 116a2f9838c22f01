"""Health, readiness and metrics: what operators and the tools that watch for them see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from capsule_sidecar.storage.journal import Journal
from tests.support.eventually import eventually
from tests.support.http import Browser, problem, served
from tests.support.sidecar import FAST


async def test_health_and_readiness_name_what_is_attached(tmp_path: Path) -> None:
    async with served(tmp_path, attach=False) as (running, handler), Browser(running) as me:
        assert (await me.http.get("/healthz")).json() == {"status": "ok"}
        assert (await me.http.get("/readyz")).json() == {"status": "ready", "handlers": 0}
        await handler.attach()
        assert (await me.http.get("/readyz")).json() == {"status": "ready", "handlers": 1}


async def test_a_sidecar_whose_storage_does_not_write_is_alive_and_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.open()
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "healthy", property(lambda _: False))
            away = await me.http.get("/readyz")
            assert (away.status_code, away.json()["status"]) == (503, "not ready")
            assert (await me.http.get("/healthz")).status_code == 200
        assert (await me.http.get("/readyz")).status_code == 200


async def test_a_sidecar_that_drains_is_not_ready_and_lets_its_turn_end(tmp_path: Path) -> None:
    timing = FAST | {"drain_grace": 60.0}
    async with Stopping(tmp_path, timing=timing) as (running, handler, leave):
        async with Browser(running) as me:
            session = await me.open()
            await me.say(session, "hold on")
            work = await handler.work()
            async with me.follow(session) as events:
                await events.live()
                leaving = asyncio.create_task(leave())

                async def draining() -> bool:
                    return (await me.http.get("/readyz")).status_code == 503

                await eventually(draining, timeout=15)
                assert (await me.http.get("/healthz")).status_code == 200
                await handler.finish(work)
                await events.sees("invocation_ended", 2)
                error = await events.ends()
                assert error is not None
                assert error["reason"] == "SHUTTING_DOWN"
                await leaving


class Stopping:
    """A sidecar that the test can stop before it is left."""

    def __init__(self, home: Path, **settings: object) -> None:
        self._serving = served(home, **settings)  # type: ignore[arg-type]  # settings by name

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        running, handler = await self._serving.__aenter__()
        assert running.sidecar is not None
        return running, handler, lambda: running.sidecar.__aexit__()

    async def __aexit__(self, *error: object) -> None:
        await self._serving.__aexit__(None, None, None)


FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-proto",
             "x-forwarded-host")  # fmt: skip


async def test_metrics_are_for_this_machine_or_with_the_operators_token(tmp_path: Path) -> None:
    web = {"trusted_proxies": ["127.0.0.1"]}
    async with served(tmp_path, web=web) as (running, _), Browser(running) as me:
        assert (await me.http.get("/metrics")).status_code == 200
        bearer = {"authorization": f"Bearer {running.token}"}
        for name in FORWARDED:
            # What comes through a proxy on this machine comes from anywhere.
            through = {name: "127.0.0.1"}
            problem(await me.http.get("/metrics", headers=through), 403, "PERMISSION_DENIED")
            assert (await me.http.get("/metrics", headers=through | bearer)).is_success
        for wrong in ("Bearer x", "Bearer", "Basic eA==", f"bearer{running.token}", "é"):
            header = {"authorization": wrong.encode("latin-1")}
            answer = await me.http.get("/metrics", headers=header)  # type: ignore[arg-type]  # bytes are sent as they are
            problem(answer, 401, "UNAUTHENTICATED")


async def test_a_token_of_an_app_does_not_open_the_metrics(tmp_path: Path) -> None:
    apps = {"support": {"token": "handler-token", "channels": {"c": {"token": "channel-token"}}}}
    async with served(tmp_path, apps=apps, attach=False) as (running, _):
        async with Browser(running) as me:
            for token in ("handler-token", "channel-token"):
                header = {"authorization": f"Bearer {token}"}
                answer = await me.http.get("/metrics", headers=header)
                problem(answer, 403, "PERMISSION_DENIED")


async def test_metrics_are_read_by_prometheus_and_say_what_happened(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        await me.say(session, "secret words")
        for _ in range(3):
            await me.timeline(session)
        await me.http.request("BREW", "/healthz")
        async with me.follow(session) as events:
            await events.live()
            answer = await me.http.get("/metrics")
        figures = read(answer)
        assert figures["capsule_ready", ()] == 1
        assert figures["capsule_handlers", ()] == 1
        assert figures["capsule_followers", ()] == 1
        assert figures["capsule_event_streams", ()] == 1
        assert figures["capsule_http_connections", ()] >= 1
        assert figures["capsule_events_total", ()] == 3  # opened, entered, said
        counted = (("method", "GET"), ("operation", "getSession"), ("status", "200"))
        assert figures["capsule_http_requests_total", counted] == 3
        assert figures["capsule_http_request_seconds_count", (("operation", "getSession"),)] == 3
        for hidden in (session, "secret", me.token, running.token, "support", "BREW"):
            assert hidden not in answer.text
        await eventually(lambda: _no_followers(me), timeout=15)


async def _no_followers(me: Browser) -> bool:
    return read(await me.http.get("/metrics"))["capsule_followers", ()] == 0


def read(answer: httpx.Response) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Returns the figures by name and labels."""
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

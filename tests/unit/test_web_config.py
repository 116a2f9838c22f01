"""The settings of the HTTP side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule_sidecar.config import ConfigError, Settings, load_settings
from capsule_sidecar.web.app import hosts
from capsule_sidecar.web.requests import host_name


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CAPSULE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("capsule.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_without_configuration_http_is_on_loopback_and_lets_guests_in() -> None:
    settings = load_settings()
    assert settings.http == "127.0.0.1:7480"
    assert settings.http_address.loopback
    assert settings.web.public_url is None
    assert settings.web.sign_in_ttl == 90 * 86_400
    assert settings.limits.max_body_bytes == 2 * 1024 * 1024
    assert (settings.limits.connections, settings.limits.followers_per_user) == (10_000, 100)
    assert (settings.timing.head_timeout, settings.timing.body_timeout) == (10, 30)
    assert (settings.timing.keep_alive, settings.timing.write_timeout) == (75, 60)


def test_all_of_it_is_read_from_a_file_with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_WEB__SIGN_IN_TTL", "30d")
    monkeypatch.setenv("CAPSULE_LIMITS__CONNECTIONS", "7")
    settings = load_settings(
        written(
            'http = "[::1]:0"\n[web]\npublic_url = "https://Chat.Example.com:8443"\n'
            'hosts = ["A.example", "b-c.example"]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n'
            'sign_in_ttl = "1h"\n[apps.demo]\nhost = "Demo.Example"\n[apps.shut]\nsign_in = []\n'
            '[timing]\nhead_timeout = "1500ms"\n[limits]\nmax_body_bytes = "3MiB"\n'
        )
    )
    assert settings.web.public_url == "https://chat.example.com:8443"
    assert settings.web.sign_in_ttl == 30 * 86_400
    assert settings.limits.connections == 7
    assert settings.limits.max_body_bytes == 3 * 1024 * 1024
    assert settings.timing.head_timeout == 1.5
    assert settings.apps["demo"].host == "demo.example"
    assert settings.apps["demo"].sign_in == ("guest",)
    assert settings.apps["shut"].sign_in == ()
    assert hosts(settings) == {
        "localhost", "127.0.0.1", "::1", "a.example", "b-c.example", "chat.example.com",
        "demo.example",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http = 'here'", "http: 'here' is not HOST:PORT"),
        ("http = 'unix:/run/x'", "http: 'unix:/run/x' is not HOST:PORT: HTTP is served over TCP"),
        ("[web]\nhost = 'a'", "web.host: there is no such setting"),
        ("[web]\npublic_url = 'chat.example.com'", "web.public_url: "),
        ("[web]\npublic_url = 'https://a.example/chat'", "web.public_url: "),
        ("[web]\npublic_url = 'ftp://a.example'", "web.public_url: "),
        ("[web]\nhosts = ['a.example:80']", "web.hosts.0: "),
        ("[web]\nhosts = ['*']", "web.hosts.0: "),
        ("[web]\nhosts = ['']", "web.hosts.0: "),
        ("[web]\ntrusted_proxies = ['proxy.example']", "web.trusted_proxies.0: "),
        ("[web]\ntrusted_proxies = ['*']", "web.trusted_proxies.0: "),
        ("[web]\nsign_in_ttl = 0", "web.sign_in_ttl: "),
        ("[apps.a]\nsign_in = ['email']", "apps.a.sign_in.0: "),
        ("[apps.a]\nhost = 'a.example/x'", "apps.a.host: "),
        ("[limits]\nconnections = 0", "limits.connections: "),
        ("[timing]\nwrite_timeout = -1", "timing.write_timeout: "),
        ("[timing]\nfollow_beat = 16", "timing.follow_beat: "),
        ("http = '0.0.0.0:80'", "http = '0.0.0.0:80' is reachable from other machines: declare"),
        ("http = '0.0.0.0:80'\n[apps.a]", "http = '0.0.0.0:80' is reachable from other machines"),
    ],
)
def test_a_fault_is_one_line_that_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(text))
    said = str(caught.value)
    assert said.startswith(f"capsule.toml: {message}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("http", "own"),
    [("0.0.0.0:80", set()), ("[::]:80", set()), ("Chat.Example:80", {"chat.example"})],
)
def test_the_name_it_listens_on_is_one_of_its_hosts_where_it_is_one(
    http: str, own: set[str]
) -> None:
    settings = Settings(http=http, insecure=True, apps={"a": {}})  # type: ignore[dict-item]  # as in a file
    assert hosts(settings) == {"localhost", "127.0.0.1", "::1", *own}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.example", "a.example"),
        ("A.Example:80", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:", "a.example"),
        ("[::1]:80", "::1"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("", ""),
        ("[::1", ""),
        ("[::1]a", ""),
        ("a:b", ""),
        ("a:1:2", ""),
        ("a b", ""),
        ("a@b", ""),
        ("a/b", ""),
        ("é", ""),
        ("a\n", ""),
    ],
)
def test_a_host_is_read_strictly(host: str, name: str) -> None:
    assert host_name(host) == name

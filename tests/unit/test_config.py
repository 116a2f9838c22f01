from __future__ import annotations

from pathlib import Path

import pytest

from capsule_sidecar.address import parse_address
from capsule_sidecar.config import ConfigError, Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("CAPSULE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "capsule.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def refused(text: str = "", **overrides: object) -> str:
    """What is said about a file, without the file's name where it stands in front."""
    with pytest.raises(ConfigError) as caught:
        load_settings(written(text), **overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_configuration_it_listens_on_loopback_and_lives_in_dot_capsule() -> None:
    settings = load_settings()
    assert settings.home == Path(".capsule")
    assert settings.grpc == "127.0.0.1:7400"
    assert settings.grpc_address.loopback
    assert settings.storage.url is None
    assert settings.apps == {}


def test_the_defaults_are_the_limits_of_the_protocol() -> None:
    limits, timing = load_settings().limits, load_settings().timing
    assert limits.max_text_bytes == 262_144
    assert limits.max_block_bytes == 65_536
    assert limits.max_data_bytes == 1_048_576
    assert limits.max_message_bytes == 4_194_304
    assert limits.batch_bytes == limits.stream_window_bytes == 1_048_576
    assert limits.history_bytes == 524_288
    assert limits.bytes_in_flight == 16_777_216
    assert limits.commands_in_flight == 4_096
    assert (limits.waiting_messages, limits.history_messages) == (100, 50)
    assert (timing.beat_interval, timing.fresh_beat, timing.lease_term) == (3, 6, 15)
    assert (timing.turn_deadline, timing.stop_grace, timing.max_attempts) == (600, 10, 3)
    assert (timing.checkpoint_interval, timing.checkpoint_bytes) == (0.25, 4096)
    assert (timing.follow_beat, timing.request_retention) == (15, 86_400)
    assert timing.drain_grace == 30


def test_the_file_in_the_working_directory_is_read() -> None:
    written('home = "elsewhere"')
    assert load_settings().home == Path("elsewhere")


def test_a_file_that_is_named_takes_its_place() -> None:
    written('home = "elsewhere"')
    assert load_settings(written('home = "there"', "other.toml")).home == Path("there")


def test_a_file_that_is_named_and_missing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^gone\.toml: cannot be read"):
        load_settings(Path("gone.toml"))


def test_the_command_line_is_before_variables_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = written('home = "file"\ngrpc = "127.0.0.1:1"\n[log]\nlevel = "debug"\nformat = "json"')
    monkeypatch.setenv("CAPSULE_HOME", "variable")
    monkeypatch.setenv("CAPSULE_LOG__LEVEL", "error")
    settings = load_settings(path, home=Path("override"), grpc=None)
    assert settings.home == Path("override")
    assert settings.grpc == "127.0.0.1:1"
    assert settings.log.level == "error"
    assert settings.log.format == "json"  # groups are merged key by key


def test_variables_of_the_clients_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("CAPSULE_TOKEN", "secret")
    assert load_settings() == Settings()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_HOME", "")
    assert load_settings().home == Path(".capsule")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grcp = 'a'", "capsule.toml: grcp: there is no such setting"),
        ("[timing]\nlease = 3", "capsule.toml: timing.lease: there is no such setting"),
        ("grpc = 'here'", "capsule.toml: grpc: 'here' is not HOST:PORT or unix:PATH"),
        (
            "[timing]\nlease_term = '10x'",
            "capsule.toml: timing.lease_term: '10x' is not a duration",
        ),
        ("[limits]\nmax_text_bytes = '1 GB'", "capsule.toml: limits.max_text_bytes: '1 GB' is not"),
        ("[timing]\nlease_term = -1", "capsule.toml: timing.lease_term: "),
        ("[timing]\nsweep_interval = 2", "capsule.toml: timing.sweep_interval: "),
        ("[timing]\nlease_term = 4", "capsule.toml: timing: needs beat_interval < fresh_beat"),
        ("[limits]\nmax_text_bytes = '8MiB'", "capsule.toml: limits: max_message_bytes must"),
        ("[apps.Demo]", "capsule.toml: apps.Demo: not a name that may stand here"),
        ("[apps.demo.channels.chat]", "capsule.toml: apps.demo.channels.chat.token: is missing"),
        ("[apps.demo]\ntoken = ''", "capsule.toml: apps.demo.token: a token is printable ASCII"),
        ("[storage]\nurl = 'mysql://x'", "capsule.toml: storage.url: a storage URL begins with"),
        ("[files]\nurl = 'gs://x'", "capsule.toml: files.url: 'gs://x' is not s3://BUCKET"),
        ("[files]\nregion = 'x'", "capsule.toml: files: region is set, but no url that it is for"),
        (
            "[files]\nurl = 's3://abc'\nendpoint = 'http://here'",
            "capsule.toml: files: the endpoint is plain http: set allow_http",
        ),
        (
            "[files]\nurl = 's3://abc'\naccess_key_id = 'k'",
            "capsule.toml: files: access_key_id and secret_access_key belong together",
        ),
        (
            "[files]\nsigning_key = 'short'",
            "capsule.toml: files.signing_key: a signing key has at least 32 characters",
        ),
        ("[tls]\ncert_file = 'a'", "capsule.toml: tls: cert_file and key_file belong together"),
        ("[log]\nlevel = 'loud'", "capsule.toml: log.level: "),
        ("home = ", "capsule.toml: is not TOML"),
    ],
)
def test_a_fault_is_one_line_that_names_key_and_file(text: str, message: str) -> None:
    assert refused(text).startswith(message)


def test_a_fault_on_the_command_line_is_said_to_be_there() -> None:
    assert refused("grpc = '127.0.0.1:1'", grpc="x").startswith("the command line: grpc: ")


def test_a_fault_in_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_TIMING__LEASE_TERM", "long")
    assert refused().startswith(
        "the environment: timing.lease_term (CAPSULE_TIMING__LEASE_TERM): 'long' is not a duration"
    )


def test_an_unknown_variable_of_a_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_LIMITS__TEXT", "1")
    assert "CAPSULE_LIMITS__TEXT" in refused()


@pytest.mark.parametrize("name", ["CAPSULE_TIMMING", "CAPSULE_TIMMING__LEASE_TERM"])
def test_an_unknown_variable_of_no_group_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "3s")
    assert refused() == f"the environment: {name}: there is no such setting"


def test_variables_that_secrets_name_or_kubernetes_sets_are_let_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_7400_TCP_ADDR", "X_PORT"):
        monkeypatch.setenv(f"CAPSULE_{name}", "1")
    monkeypatch.setenv("CAPSULE_DEMO_SECRET", "s")
    file = tmp_path / "named.toml"
    file.write_text("[apps.demo]\ntoken = 'env:CAPSULE_DEMO_SECRET'\n")
    token = load_settings(file).apps["demo"].token
    assert token is not None
    assert token.get_secret_value() == "s"


def test_a_variable_that_is_no_json_where_json_is_due_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAPSULE_LIMITS", "{")
    assert refused().startswith("the environment: ")


def test_durations_and_sizes_have_units() -> None:
    settings = load_settings(
        written('[timing]\nturn_deadline = "2m"\nlease_term = "1h"\nstop_grace = "250ms"\n'
                '[limits]\nmax_text_bytes = "64KiB"\nmax_data_bytes = 9')
    )  # fmt: skip
    assert settings.timing.turn_deadline == 120
    assert settings.timing.lease_term == 3600
    assert settings.timing.stop_grace == 0.25
    assert settings.limits.max_text_bytes == 65_536
    assert settings.limits.max_data_bytes == 9


def test_secrets_come_from_variables_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_TOKEN", "from-the-variable")
    Path("chat.token").write_text("from-the-file\n", encoding="utf-8")
    settings = load_settings(
        written('[apps.demo]\ntoken = "env:DEMO_TOKEN"\n'
                '[apps.demo.channels.chat]\ntoken = "file:chat.token"')
    )  # fmt: skip
    app = settings.apps["demo"]
    assert app.token is not None
    assert app.token.get_secret_value() == "from-the-variable"
    assert app.channels["chat"].token.get_secret_value() == "from-the-file"
    assert "from-the" not in repr(settings)


def test_a_secret_that_is_not_there_is_named_by_its_key() -> None:
    assert refused('[apps.a]\ntoken = "env:NO_SUCH_VARIABLE"') == (
        "capsule.toml: apps.a.token: the variable NO_SUCH_VARIABLE that it names is not set"
    )
    assert refused('[apps.a]\ntoken = "file:gone"').startswith(
        "capsule.toml: apps.a.token: the file gone that it names cannot be read"
    )


def test_no_error_shows_a_secret() -> None:
    assert "top secret" not in refused("[apps.a]\ntoken = 'top secret'")
    assert "hush" not in refused("[storage]\nurl = 'mysql://u:hush@host/db'")


def test_two_apps_with_one_token_are_refused() -> None:
    assert "apps.a.token and apps.b.channels.c.token are the same" in refused(
        "[apps.a]\ntoken = 't'\n[apps.b.channels.c]\ntoken = 't'"
    )


def test_beyond_loopback_apps_must_be_declared_even_where_tls_is_waived() -> None:
    assert "declare the apps" in refused("grpc = '0.0.0.0:7400'")
    assert "declare the apps" in refused("grpc = '0.0.0.0:7400'\ninsecure = true")


def test_beyond_loopback_tls_is_required_unless_waived() -> None:
    assert "tls.cert_file" in refused("grpc = 'example.org:7400'\n[apps.a]")
    waived = written("grpc = 'example.org:7400'\ninsecure = true\n[apps.a]")
    assert load_settings(waived).insecure
    for name in ("cert.pem", "key.pem"):
        Path(name).touch()
    tls = written("grpc = '[::]:7400'\n[apps.a]\n"
                  "[tls]\ncert_file = 'cert.pem'\nkey_file = 'key.pem'")  # fmt: skip
    assert load_settings(tls).tls.enabled


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.9.9.9:1", True),
        ("localhost:7400", True),
        ("[::1]:7400", True),
        ("unix:/run/x", True),
        ("0.0.0.0:7400", False),
        ("[::]:7400", False),
        ("10.0.0.1:7400", False),
        ("example.org:7400", False),
    ],
)
def test_an_address_knows_whether_others_reach_it_and_keeps_its_form(
    text: str, loopback: bool
) -> None:
    assert parse_address(text).loopback is loopback
    assert str(parse_address(text)) == text


@pytest.mark.parametrize("text", ["", "x", ":1", "h:", "h:65536", "::1:5", "unix:", "http://h:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|unix: needs a path"):
        parse_address(text)


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.grpc = "x:1"

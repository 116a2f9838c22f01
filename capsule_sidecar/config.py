"""Settings: `capsule.toml`, `CAPSULE_*` variables and what the command line overrides.

Every limit and every duration of the sidecar has its one place here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from capsule_sidecar.address import Address, parse_address

DEFAULT_FILE = Path("capsule.toml")
ENV_PREFIX = "CAPSULE_"
ENV_DELIMITER = "__"
# What others read under the prefix: clients, and a handler that reloads.
FOREIGN_VARIABLES = frozenset(
    f"{ENV_PREFIX}{name}" for name in ("ADDRESS", "TOKEN", "APP", "READY_FD", "LIFE_FD")
)
# What Kubernetes sets for every service, one named `capsule` or `capsule-...` among them.
_SERVICE_VARIABLE = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP)(_.+)?)?)")


class ConfigError(Exception):
    """A setting is wrong. Its text is one line that names the key and where it stands."""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)
    if match is None:
        raise ValueError(
            f'{value!r} is not a duration: give seconds, or a string like "15s", "10m"'
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*(B|KiB|MiB|GiB)?\s*", value)
    if match is None:
        raise ValueError(f'{value!r} is not a size: give bytes, or "64KiB", "4MiB"')
    return int(match[1]) * _SIZES[match[2] or "B"]


def _secret(value: object) -> object:
    """Follows `env:NAME` and `file:PATH`. A plain string is the secret itself."""
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if not os.environ.get(name):
            raise ValueError(f"the variable {name} that it names is not set")
        return os.environ[name]
    if value.startswith("file:"):
        path = Path(value.removeprefix("file:"))
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file {path} that it names cannot be read: {error}") from None
    return value


def _token(value: SecretStr) -> SecretStr:
    # It travels as gRPC metadata, which is printable ASCII.
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("a token is printable ASCII without spaces, and not empty")
    return value


def _storage_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("postgresql+psycopg://"):
        raise ValueError("a storage URL begins with postgresql+psycopg://")
    return value


def _grpc_address(value: str) -> str:
    parse_address(value)
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Token = Annotated[SecretStr, BeforeValidator(_secret), AfterValidator(_token)]
AppName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]


class _Group(BaseModel):
    # Input is hidden so that no message of an error can carry a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TlsSettings(_Group):
    """The certificate that the gRPC side shows: PEM files, both or none."""

    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        for path in (self.cert_file, self.key_file):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}")
        return self

    @property
    def enabled(self) -> bool:
        """True where a certificate is configured."""
        return self.cert_file is not None


class LogSettings(_Group):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class StorageSettings(_Group):
    """Where the log is kept."""

    # `postgresql+psycopg://...`; None: SQLite in the home.
    url: Annotated[SecretStr, BeforeValidator(_secret), AfterValidator(_storage_url)] | None = None


class ChannelSettings(_Group):
    """A channel adapter of an app."""

    token: Token


class AppSettings(_Group):
    """A declared app. Without a token of its own it is reached with the home's token only."""

    token: Token | None = None
    channels: dict[ChannelName, ChannelSettings] = Field(default_factory=dict)


class Limits(_Group):
    """What the sidecar takes. Sizes are bytes of UTF-8, `_chars` are code points."""

    max_text_bytes: Bytes = 256 * 1024
    max_block_bytes: Bytes = 64 * 1024
    max_action_bytes: Bytes = 64 * 1024
    max_data_bytes: Bytes = 1024 * 1024
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_title_chars: Count = 200
    max_status_chars: Count = 1_000
    max_detail_chars: Count = 4_000
    max_identity_chars: Count = 200
    max_key_chars: Count = 256
    max_block_id_chars: Count = 128
    max_action_name_chars: Count = 128
    waiting_messages: Count = 100
    history_messages: Count = 50
    history_bytes: Bytes = 512 * 1024
    page_size: Count = 50
    max_page_size: Count = 200
    page_bytes: Bytes = 1024 * 1024
    batch_bytes: Bytes = 1024 * 1024
    commands_in_flight: Count = 4_096
    bytes_in_flight: Bytes = 16 * 1024 * 1024
    stream_window_bytes: Bytes = 1024 * 1024
    # Of one invocation at once: the text of open streams is held in memory.
    open_streams: Count = 100
    default_concurrency: Count = 64
    max_concurrency: Count = 1_000

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.page_size > self.max_page_size:
            raise ValueError("page_size is above max_page_size")
        # An item travels alone where it exceeds a batch, but never exceeds a gRPC message.
        largest = max(self.max_text_bytes, self.max_block_bytes, self.batch_bytes, self.page_bytes)
        if self.max_message_bytes < max(largest, self.max_data_bytes + self.history_bytes) + 65_536:
            raise ValueError(
                "max_message_bytes must exceed text, block, batch and page, and data with history,"
                " by 64 KiB"
            )
        return self


class Timing(_Group):
    """How long things last, in seconds, or as strings like "15s", "10m", "24h"."""

    beat_interval: Seconds = 3.0
    lease_term: Seconds = 15.0
    fresh_beat: Seconds = 6.0
    # The protocol promises an end of a lease at most 1 s after its term.
    sweep_interval: Annotated[Seconds, Field(le=1.0)] = 1.0
    turn_deadline: Seconds = 600.0
    stop_grace: Seconds = 10.0
    max_attempts: Count = 3
    drain_grace: Seconds = 30.0
    # The protocol promises a checkpoint at least every 250 ms or 4 KiB.
    checkpoint_interval: Annotated[Seconds, Field(le=0.25)] = 0.25
    checkpoint_bytes: Annotated[Bytes, Field(le=4096)] = 4096
    # The protocol promises a follower a sign of life at least every 15 s.
    follow_beat: Annotated[Seconds, Field(le=15.0)] = 15.0
    request_retention: Seconds = 24 * 3600.0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.beat_interval < self.fresh_beat <= self.lease_term:
            raise ValueError("needs beat_interval < fresh_beat <= lease_term")
        return self


class Settings(BaseSettings):
    """All of it. Made by `load_settings`; made directly, it reads neither file nor variables."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        env_ignore_empty=True,
    )

    home: Path = Path(".capsule")
    grpc: Annotated[str, AfterValidator(_grpc_address)] = "127.0.0.1:7400"
    # Waives TLS beyond loopback, as behind a proxy that has it.
    insecure: bool = False
    tls: TlsSettings = Field(default_factory=TlsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    apps: dict[AppName, AppSettings] = Field(default_factory=dict)
    limits: Limits = Field(default_factory=Limits)
    timing: Timing = Field(default_factory=Timing)

    @property
    def grpc_address(self) -> Address:
        """Where the gRPC side listens."""
        return parse_address(self.grpc)

    @model_validator(mode="after")
    def _safe_beyond_loopback(self) -> Self:
        if not self.grpc_address.loopback:
            where = f"grpc = {self.grpc!r} is reachable from other machines"
            if not self.apps:
                raise ValueError(f"{where}: declare the apps it serves, as [apps.NAME]")
            if not self.tls.enabled and not self.insecure:
                raise ValueError(
                    f"{where}: set tls.cert_file and tls.key_file,"
                    " or insecure = true where a proxy does TLS"
                )
        return self

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        owners: dict[str, str] = {}
        for name, app in self.apps.items():
            tokens = {f"apps.{name}": app.token}
            for channel, settings in app.channels.items():
                tokens[f"apps.{name}.channels.{channel}"] = settings.token
            for owner, token in tokens.items():
                if token is None:
                    continue
                other = owners.setdefault(token.get_secret_value(), owner)
                if other != owner:
                    raise ValueError(f"{other}.token and {owner}.token are the same")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Takes what is given and nothing else: `load_settings` merges the sources."""
        return (init_settings,)


def load_settings(config_path: Path | None = None, **overrides: object) -> Settings:
    """Reads the settings: overrides before `CAPSULE_*` variables before the file before defaults.

    Args:
        config_path: the file; None takes `./capsule.toml` where there is one.
        overrides: values by field name, nested groups as dicts; None counts as not given.

    Raises:
        ConfigError: a file that cannot be read, an unknown key or a bad value.
    """
    if config_path is None and DEFAULT_FILE.is_file():
        config_path = DEFAULT_FILE
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        variables = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigError(f"the environment: {error}: {error.__cause__}") from None
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("the command line", given),
        ("the environment", variables),
    ]
    if config_path is not None:
        sources.append((str(config_path), _read(config_path)))
    _check_variables(sources)
    merged: dict[str, Any] = {}
    for _, values in reversed(sources):
        merged = _merge(merged, values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources)) from None


def _check_variables(sources: list[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuses a variable that sets nothing: the source of variables looks only for what it knows.

    What stands within a group is checked with the group.
    """
    for name in sorted(os.environ):
        key = name.upper()
        if not key.startswith(ENV_PREFIX) or not os.environ[name]:
            continue
        first = key.removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)[0].lower()
        if first in Settings.model_fields or key in FOREIGN_VARIABLES:
            continue
        if not _SERVICE_VARIABLE.fullmatch(key) and not _names(sources, f"env:{name}"):
            raise ConfigError(f"the environment: {name}: there is no such setting")


def _names(value: object, wanted: str) -> bool:
    """Returns whether a string stands anywhere in nested values."""
    if isinstance(value, Mapping):
        return any(_names(item, wanted) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_names(item, wanted) for item in value)
    return value == wanted


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(cast(Mapping[str, Any], old), value) if both else value
    return merged


def _explain(error: ValidationError, sources: list[tuple[str, Mapping[str, Any]]]) -> str:
    """Returns one line about the first fault: where it stands, its key, what is wrong."""
    fault = error.errors(include_url=False, include_context=False)[0]
    path = [str(part) for part in fault["loc"] if part != "[key]"]
    key = ".".join(path)
    origin = next((name for name, values in sources if _holds(values, path)), None)
    if origin == "the environment":
        key = f"{key} ({ENV_PREFIX}{ENV_DELIMITER.join(path).upper()})" if key else key
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "there is no such setting"
    elif fault["loc"] and fault["loc"][-1] == "[key]":
        message = f"not a name that may stand here: {message}"
    elif fault["type"] == "missing":
        message = "is missing"
    if origin is None:  # a rule over several keys: the file is where it is mended
        origin = next((name for name, values in reversed(sources) if values), "the settings")
    return f"{origin}: {key}: {message}" if key else f"{origin}: {message}"


def _holds(values: Mapping[str, Any], path: list[str]) -> bool:
    node: Any = values
    for part in path:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return bool(path)

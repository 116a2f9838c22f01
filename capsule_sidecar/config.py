"""Settings: `capsule.toml`, `CAPSULE_*` variables and what the command line overrides."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
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
from capsule_sidecar.bounds import Group, Limits, Seconds, Timing
from capsule_sidecar.names import APP_NAME

__all__ = ["AppSettings", "ConfigError", "Limits", "Settings", "Timing", "load_settings"]

DEFAULT_FILE = Path("capsule.toml")
ENV_PREFIX = "CAPSULE_"
ENV_DELIMITER = "__"
# What others read under the prefix: clients, and children of a parent that they do not outlive.
FOREIGN_VARIABLES = frozenset(
    f"{ENV_PREFIX}{name}" for name in ("ADDRESS", "TOKEN", "APP", "READY_FD", "LIFE_FD")
)
# What Kubernetes sets for every service, one named `capsule` or `capsule-...` among them.
_SERVICE_VARIABLE = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP)(_.+)?)?)")


class ConfigError(Exception):
    """A setting is wrong. Its text is one line that names the key and where it stands."""


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


def _filled(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("is empty")
    return value


def _signing_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise ValueError("a signing key has at least 32 characters")
    return value


def _bucket_url(value: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9/._-]*)?", value):
        raise ValueError(f"{value!r} is not s3://BUCKET or s3://BUCKET/PREFIX")
    return value


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+/?", value):
        raise ValueError(f"{value!r} is not http(s)://HOST or http(s)://HOST:PORT, without a path")
    return value.rstrip("/")


def _grpc_address(value: str) -> str:
    parse_address(value)
    return value


def _http_address(value: str) -> str:
    if parse_address(value).path:
        raise ValueError(f"{value!r} is not HOST:PORT: HTTP is served over TCP")
    return value


def _public_url(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", value):
        raise ValueError(f"{value!r} is not http(s)://HOST or http(s)://HOST:PORT, without a path")
    return value.lower()


def _proxy(value: str) -> str:
    ipaddress.ip_network(value, strict=False)  # its ValueError says what is wrong
    return value


def _identity(value: str) -> str:
    if len(value) > 200 or not re.fullmatch(r"[a-z0-9_-]{1,32}:[^\s\x00-\x1f]+", value):
        raise ValueError("must be of the form `<channel>:<external id>`, as `terminal:ann`")
    return value


Token = Annotated[SecretStr, BeforeValidator(_secret), AfterValidator(_token)]
Secret = Annotated[SecretStr, BeforeValidator(_secret), AfterValidator(_filled)]
AppName = Annotated[str, StringConstraints(pattern=f"^{APP_NAME.pattern}$")]
HostName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", to_lower=True)
]
# As channels name people: at most 200 characters in all.
Identity = Annotated[str, AfterValidator(_identity)]
ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]


class TlsSettings(Group):
    """The certificate that both sides show: PEM files, both or none."""

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


class LogSettings(Group):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class StorageSettings(Group):
    """Where the log is kept."""

    # `postgresql+psycopg://...`; None: SQLite in the home.
    url: Annotated[SecretStr, BeforeValidator(_secret), AfterValidator(_storage_url)] | None = None


class FileSettings(Group):
    """Where the bytes of files are kept, and what their addresses are signed with.

    Attributes:
        url: `s3://BUCKET` or `s3://BUCKET/PREFIX`; None: a directory in the home.
        endpoint: The address of the service, where it is not that of AWS.
        region: The bucket's region.
        access_key_id: With `secret_access_key`; without them, AWS's own variables and roles count.
        secret_access_key: As above.
        allow_http: The endpoint may be plain http.
        signing_key: What addresses are signed with, the same for all sidecars of one database;
            None: a key in the home.
    """

    url: Annotated[str, AfterValidator(_bucket_url)] | None = None
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    allow_http: bool = False
    signing_key: Annotated[Secret, AfterValidator(_signing_key)] | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        of_bucket = ("endpoint", "region", "access_key_id", "secret_access_key")
        for name in of_bucket:
            if self.url is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is set, but no url that it is for")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        if (self.endpoint or "").startswith("http:") and not self.allow_http:
            raise ValueError("the endpoint is plain http: set allow_http = true, or give https")
        return self


class ChannelSettings(Group):
    """A channel adapter of an app."""

    token: Token


class WebSettings(Group):
    """How browsers reach the HTTP side.

    Attributes:
        public_url: Its address from outside, as `https://chat.example.com`, where a proxy stands
            in front. Cookies are `Secure` where it is https.
        hosts: Further names that requests may be for, without ports.
        trusted_proxies: Addresses or networks whose `X-Forwarded-For` and `-Proto` are believed.
        sign_in_ttl: How long a browser that does not come back stays signed in.
    """

    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    hosts: tuple[HostName, ...] = ()
    trusted_proxies: tuple[Annotated[str, AfterValidator(_proxy)], ...] = ()
    sign_in_ttl: Seconds = 90 * 86_400.0


class AppSettings(Group):
    """A declared app. Without a token of its own it is reached with the home's token only.

    Attributes:
        token: Its handlers' token.
        channels: Its channel adapters.
        host: A host name of its own: that name serves this app alone.
        sign_in: How people may sign in; empty: nobody reaches it by HTTP.
        owner: Whose its schedules are, and its tasks without a session: `<channel>:<external id>`.
    """

    token: Token | None = None
    host: HostName | None = None
    sign_in: tuple[Literal["guest"], ...] = ("guest",)
    owner: Identity | None = None
    channels: dict[ChannelName, ChannelSettings] = Field(default_factory=dict)


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
    http: Annotated[str, AfterValidator(_http_address)] = "127.0.0.1:7480"
    # Waives TLS beyond loopback, as behind a proxy that has it.
    insecure: bool = False
    # Lets AdminService.AdvanceClock move the time: for tests of handlers only.
    test_clock: bool = False
    tls: TlsSettings = Field(default_factory=TlsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    files: FileSettings = Field(default_factory=FileSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    apps: dict[AppName, AppSettings] = Field(default_factory=dict)
    limits: Limits = Field(default_factory=Limits)
    timing: Timing = Field(default_factory=Timing)

    @property
    def grpc_address(self) -> Address:
        """Where the gRPC side listens."""
        return parse_address(self.grpc)

    @property
    def http_address(self) -> Address:
        """Where the HTTP side listens."""
        return parse_address(self.http)

    @model_validator(mode="after")
    def _safe_beyond_loopback(self) -> Self:
        for name, address in (("grpc", self.grpc_address), ("http", self.http_address)):
            if address.loopback:
                continue
            where = f"{name} = {str(address)!r} is reachable from other machines"
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

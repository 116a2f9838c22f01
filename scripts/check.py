"""Every check that is not a test of the sidecar: style, types, imports, protos, the chat page.

python scripts/check.py             all of them, each to its end; exits 1 when one fails
python scripts/check.py types       those named (see CHECKS)
"""

from __future__ import annotations

import filecmp
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from build_page import PAGE, WEB, build_page
from gen_blocks import BLOCKS_OUT, generate_blocks
from gen_protos import PYTHON_OUT, ROOT_PACKAGE, generate_python, sources, write_image
from gen_wire import WIRE_OUT, generate_wire
from toolbox import BUILD, ROOT, environment, node_packages, node_settings

PYTHON = Path(sys.prefix) / "bin" / "python"
TYPED = ["capsule_sidecar", "client/python/capsule_client", "examples", "tests", "scripts"]
PAGE_LIMIT = 200 * 1024  # bytes of the page's code, styles and HTML together, compressed


class Failed(Exception):
    """A check failed; the message is what to show."""


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Runs a command, in the repository's root unless said otherwise; returns what it printed.

    Raises `Failed` with that when its exit code is not 0.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stdout.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout.strip()


def style() -> str:
    return run(PYTHON, "-m", "ruff", "check", "--quiet", ".")


def form() -> str:
    return run(PYTHON, "-m", "ruff", "format", "--check", "--quiet", ".")


def types() -> str:
    return run(PYTHON, "-m", "mypy", *TYPED).splitlines()[-1]


def imports() -> str:
    lines = run(PYTHON.parent / "lint-imports", "--no-cache", "--no-logo").splitlines()
    return lines[-1] if lines else ""


def protos() -> str:
    """Lints the protos from a descriptor image, so that buf resolves no import by itself."""
    image = BUILD / "image.binpb"
    write_image(image)
    buf("lint", str(image), "--path", ROOT_PACKAGE)
    buf("format", "--diff", "--exit-code", "proto")
    return f"{len(sources())} files"


def breaking() -> str:
    """Compares the protos with those of the last release."""
    tags = run("git", "tag", "--merged", "HEAD", "--sort=-creatordate", "--list", "v*")
    if not tags:
        return "no release yet, nothing to compare with"
    last = tags.splitlines()[0]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "protos.tar"
        run("git", "archive", f"--output={archive}", last, "proto")
        run("tar", "-xf", archive, "-C", folder)
        write_image(BUILD / "image.binpb")
        write_image(Path(folder) / "image.binpb", Path(folder) / "proto")
        before = Path(folder) / "image.binpb"
        after = str(BUILD / "image.binpb")
        buf("breaking", after, "--against", str(before), "--exclude-imports")
    return f"compatible with {last}"


def generated() -> str:
    """Generates the Python code and what else is generated anew; compares with the committed."""
    with tempfile.TemporaryDirectory() as folder:
        generate_python(Path(folder))
        new, old = Path(folder) / ROOT_PACKAGE, PYTHON_OUT / ROOT_PACKAGE
        files = _files(new)
        unlike = sorted(files ^ _files(old))
        unlike += filecmp.cmpfiles(new, old, sorted(files & _files(old)), shallow=False)[1]
        others = {WIRE_OUT: generate_wire, BLOCKS_OUT: generate_blocks}
        for committed, generate in others.items():
            made = Path(folder) / committed.name
            generate(made)
            if not committed.exists() or not filecmp.cmp(made, committed, shallow=False):
                unlike.append(committed.relative_to(ROOT).as_posix())
    if unlike:
        raise Failed("not what `make proto` writes:\n" + "\n".join(f"  {name}" for name in unlike))
    return f"{len(files) + len(others)} files"


def web() -> str:
    """Checks the page's types, style and behaviour, and how much of it a browser has to load."""
    bin_folder, env = node_packages(WEB) / ".bin", {**node_settings(), "NO_COLOR": "1", "CI": "1"}
    run(bin_folder / "tsc", "--noEmit", cwd=WEB, env=env)
    run(bin_folder / "biome", "ci", "--colors=off", ".", cwd=WEB, env=env)
    said = run(bin_folder / "vitest", "run", "--passWithNoTests", cwd=WEB, env=env)
    tests = re.search(r"Tests +(\d+ passed)", said)
    try:
        build_page()
    except subprocess.CalledProcessError as error:
        raise Failed(f"the page could not be built: {error}") from error
    size = sum(
        len(gzip.compress(path.read_bytes(), 9))
        for path in PAGE.rglob("*")
        if path.suffix in {".js", ".css", ".html"}
    )
    said = f"{size / 1024:.1f} of {PAGE_LIMIT // 1024} KiB compressed"
    if size >= PAGE_LIMIT:
        raise Failed(f"the page is too large: {said}")
    return f"{tests[1] if tests else 'no tests'}, {said}"


def buf(*arguments: str) -> str:
    """Runs the pinned buf, which must reach for nothing outside."""
    return run(environment("proto").parent / "buf", *arguments, "--config", "buf.yaml")


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


CHECKS: dict[str, Callable[[], str]] = {
    "style": style,
    "form": form,
    "types": types,
    "imports": imports,
    "protos": protos,
    "breaking": breaking,
    "generated": generated,
    "web": web,
}


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no check named {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        return 2
    # A home of its own: no tool's configuration of the person at the machine takes part.
    os.environ.setdefault("BUF_CACHE_DIR", str(BUILD / "buf"))
    failed = []
    for name in names or CHECKS:
        start = time.monotonic()
        try:
            said, mark = CHECKS[name](), "ok"
        except Failed as failure:
            said, mark = f"\n{failure}", "FAILED"
            failed.append(name)
        print(f"{name:10} {mark:6} {time.monotonic() - start:5.1f} s  {said}", flush=True)
    print(f"{len(names or CHECKS) - len(failed)} checks passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Builds the chat page from `client/web` into the sidecar's package, where anything has changed.

python scripts/build_page.py           builds it where it is not built from what is there now
python scripts/build_page.py --always  builds it in any case
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

from toolbox import BUILD, ROOT, alone, node_packages, node_settings

WEB = ROOT / "client" / "web"
PAGE = ROOT / "capsule_sidecar" / "web" / "page"
STAMP = BUILD / "page.digest"

# What the page is made of; a test of it is none of that.
SOURCES = ("index.html", "package-lock.json", "tsconfig.json", "vite.config.ts", "public", "src")


def build_page(*, always: bool = False) -> bool:
    """Builds the page, unless it is what the sources make; returns whether it was built.

    Raises `subprocess.CalledProcessError` when npm or Vite fails: the page stays as it was.
    """
    modules = node_packages(WEB)
    with alone("page"):
        digest = _digest()
        built = STAMP.exists() and STAMP.read_text(encoding="utf-8") == digest
        if built and (PAGE / "index.html").exists() and not always:
            return False
        STAMP.unlink(missing_ok=True)
        subprocess.run(
            [modules / ".bin" / "vite", "build", "--logLevel", "warn"],
            cwd=WEB,
            env=node_settings(),
            stdout=sys.stderr,
            check=True,
        )
        STAMP.write_text(digest, encoding="utf-8")
        return True


def _digest() -> str:
    """Returns what stands for the names and bytes of all sources."""
    made = hashlib.sha256()
    for path in _sources():
        made.update(f"{path.relative_to(WEB).as_posix()}\0{path.stat().st_size}\0".encode())
        made.update(path.read_bytes())
    return made.hexdigest()


def _sources() -> list[Path]:
    found: list[Path] = []
    for name in SOURCES:
        place = WEB / name
        found += [place] if place.is_file() else place.rglob("*")
    return sorted(path for path in found if path.is_file() and ".test." not in path.name)


def main() -> int:
    """Runs the command line described at the top; returns its exit code."""
    parser = argparse.ArgumentParser(description="Build the chat page.")
    parser.add_argument("--always", action="store_true")
    try:
        build_page(always=parser.parse_args().always)
    except subprocess.CalledProcessError as error:
        print(f"The chat page could not be built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

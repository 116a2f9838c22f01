"""A person's screen, without one: a browser that only writes down what it is to open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass
class Screen:
    """Variables under which a program believes in a screen, and what it has opened on it."""

    env: Mapping[str, str]
    opened: Path

    @classmethod
    def at(cls, folder: Path, *, stays: bool = False) -> Self:
        """Makes a browser in a folder; one that `stays` does not return before it is ended."""
        opened = folder / "opened"
        browser = folder / "browser"
        lines = ["#!/bin/sh", f'echo "$1" >> {opened}', *(["sleep 1000"] if stays else [])]
        browser.write_text("\n".join(lines) + "\n", encoding="utf-8")
        browser.chmod(0o755)
        return cls({"BROWSER": str(browser), "DISPLAY": ":1", "WAYLAND_DISPLAY": ""}, opened)

    def addresses(self) -> list[str]:
        """What was opened so far."""
        return self.opened.read_text(encoding="utf-8").split() if self.opened.exists() else []

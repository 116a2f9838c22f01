"""How the test kit ends the sidecars that it forks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsule_client.testing import _processes


def test_a_sidecar_may_end_between_the_look_at_it_and_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, False])

    def kill(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(_processes, "_exists", lambda pid: next(looks))
    monkeypatch.setattr("capsule_client.testing._processes.os.kill", kill)
    (tmp_path / "pid").write_text("1", encoding="ascii")
    nursery: Any = SimpleNamespace(alive=True)
    _processes._Forked(nursery, tmp_path).end()
    assert next(looks, None) is None

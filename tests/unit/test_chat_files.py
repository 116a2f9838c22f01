from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from capsule_sidecar.commands.chat_files import FileProblem, content_type, look_at, paths_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.txt", "b c.txt", "it's"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("b c.txt", ["b c.txt"]),
        ("'b c.txt'", ["b c.txt"]),
        ("b\\ c.txt", ["b c.txt"]),
        ("a.txt 'b c.txt'", ["a.txt", "b c.txt"]),
        ("it's", ["it's"]),
        ("~/a.txt", ["a.txt"]),
    ],
)
def test_a_path_is_taken_as_it_is_or_as_a_shell_writes_it(
    here: Path, typed: str, names: list[str]
) -> None:
    assert [path.absolute() for path in paths_of(typed)] == [here / name for name in names]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "which file"),
        ("no such", "no file no such"),
        ("none nowhere", "no file none nowhere"),
        ("'", "'"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(here: Path, typed: str, told: str) -> None:
    with pytest.raises(FileProblem, match=told):
        paths_of(typed)


def test_a_file_is_what_its_bytes_are(here: Path) -> None:
    file = look_at(here / "a.txt")
    assert (file.name, file.content_type, file.size) == ("a.txt", "text/plain", 1)
    assert file.sha256 == hashlib.sha256(b"x").digest()


def test_of_several_paths_the_one_that_leads_nowhere_is_told_of_alone(here: Path) -> None:
    there, missing = paths_of("a.txt none")
    assert look_at(there).name == "a.txt"
    with pytest.raises(FileProblem, match=r"^there is no file none$"):
        look_at(missing)


def test_what_is_no_plain_file_is_refused_and_not_waited_for(here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "dangling").symlink_to(here / "nowhere")
    for name, told in (("pipe", "no plain file"), (".", "a directory"), ("dangling", "No such")):
        with pytest.raises(FileProblem, match=told):
            look_at(here / name)


def test_a_type_follows_from_the_name() -> None:
    assert content_type("a.png") == "image/png"
    assert content_type("a.tar.gz") == "application/gzip"
    assert content_type("a") == "application/octet-stream"
    assert content_type("data:text/html,x") == "application/octet-stream"

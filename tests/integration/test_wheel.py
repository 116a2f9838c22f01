"""The sidecar's wheel, as somebody installs it who has no Node."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from zipfile import ZipFile

import pytest

from tests.support.programs import ROOT

PAGE = "capsule_sidecar/web/page/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (made,) = folder.glob("capsule_sidecar-*.whl")
    with ZipFile(made) as opened:
        yield opened


def test_it_holds_the_chat_page_and_every_asset_that_the_page_names(wheel: ZipFile) -> None:
    index = wheel.read(PAGE + "index.html").decode()
    named = re.findall(r'(?:src|href)="/(assets/[^"]+)"', index)
    assert any(name.endswith(".js") for name in named)
    for name in named:
        assert wheel.read(PAGE + name)


def test_it_holds_the_whole_built_page_as_it_lies_in_the_checkout(wheel: ZipFile) -> None:
    built = ROOT / PAGE
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in built.rglob("*")
        if path.is_file()
    }
    assert {name for name in wheel.namelist() if name.startswith(PAGE)} == set(files)
    assert {name: wheel.read(name) for name in files} == files


def test_it_holds_nothing_but_the_sidecar_and_none_of_the_page_in_its_sources(
    wheel: ZipFile,
) -> None:
    names = wheel.namelist()
    assert not [name for name in names if name.endswith((".ts", ".tsx"))]
    assert not [
        name
        for name in names
        if not re.match(r"capsule_sidecar/|capsule_sidecar-[\d.]+\.dist-info/", name)
    ]


def test_its_page_has_nothing_that_the_content_security_policy_forbids(wheel: ZipFile) -> None:
    index = wheel.read(PAGE + "index.html").decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)", index), "an inline script"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", index), "an inline style or handler"
    assert not re.search(r"""["'](?:https?:)?//""", index), "something of another host"


def test_its_page_lies_compressed_beside_what_is_worth_it(wheel: ZipFile) -> None:
    worth = [
        name
        for name in wheel.namelist()
        if name.startswith(PAGE)
        and name.endswith((".js", ".css", ".html", ".svg"))
        and wheel.getinfo(name).file_size > 1024
    ]
    assert worth
    assert {name + ".gz" for name in worth} <= set(wheel.namelist())

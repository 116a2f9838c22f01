from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_sidecar.home import HomeError, open_home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def wide_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("wide_umask")
def test_everything_in_a_home_is_private_whatever_the_umask(tmp_path: Path) -> None:
    with open_home(tmp_path / "deep" / "home") as home:
        assert mode(home.path) == 0o700
        assert mode(home.token_file) == 0o600
        assert mode(home.files) == mode(home.keys) == 0o700
        assert {mode(entry) for entry in home.path.iterdir()} == {0o700, 0o600}
        assert home.database == home.path / "capsule.db"


def test_a_home_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    path.chmod(0o755)
    (path / "token").write_text("old\n", encoding="ascii")
    (path / "token").chmod(0o644)
    with open_home(path) as home:
        assert home.token == "old"
        assert mode(home.path) == 0o700
        assert mode(home.token_file) == 0o600


@pytest.mark.usefixtures("wide_umask")
def test_the_signing_key_is_private_and_stays_the_same(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        first = home.signing_key()
        assert len(first) == 32
        assert mode(home.keys / "signing") == 0o600
        assert home.signing_key() == first
    with open_home(tmp_path) as home:
        assert home.signing_key() == first
        (home.keys / "signing").write_bytes(b"half")
        with pytest.raises(HomeError, match="does not hold a key"):
            home.signing_key()


def test_the_token_is_long_and_stays_the_same(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        first = home.token
    with open_home(tmp_path) as home:
        assert home.token == first == home.token_file.read_text(encoding="ascii").strip()
    assert len(first) >= 43


def test_a_token_file_left_empty_or_half_made_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    (tmp_path / "token.new").write_text("half", encoding="ascii")
    with open_home(tmp_path) as home:
        assert len(home.token) >= 43
        assert not (tmp_path / "token.new").exists()


def test_a_token_that_is_no_text_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(HomeError, match="remove it"), open_home(tmp_path):
        pass


def test_a_second_sidecar_on_a_home_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with open_home(tmp_path):
        code = (
            "import sys; from pathlib import Path\n"
            "from capsule_sidecar.home import HomeError, open_home\n"
            "try:\n"
            "    with open_home(Path(sys.argv[1])): print('opened')\n"
            "except HomeError as error: print(error)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == (
            f"another sidecar (process {os.getpid()}) uses the home {tmp_path}"
        )
    with open_home(tmp_path):  # and it is free again
        pass


def test_a_home_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from capsule_sidecar.home import open_home\n"
        "with open_home(Path(sys.argv[1])): os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert run.returncode == -9
    with open_home(tmp_path):
        pass


def test_a_home_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(HomeError, match="file/home cannot be used"),
        open_home(tmp_path / "file" / "home"),
    ):
        pass

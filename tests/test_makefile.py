"""Set-up by the Makefile when it is cut off, with a Python that only pretends to install."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
# Here `python -m venv --clear` makes a folder with this script as its python; pip install does
# nothing, or kills make if there is a file `kill`.
PYTHON = """#!/bin/sh
echo "$@" >> said
case "$*" in
    "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pip;;
    "-m pip --version") test -e .venv/pip;;
    "-m pip install "*) if test -e kill; then kill -9 $PPID; fi;;
esac
"""


@pytest.fixture
def make(tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / "fake").write_text(PYTHON)
    (tmp_path / "fake").chmod(0o755)

    def run(target="setup"):
        """The exit status of make, and the commands of Python that it ran."""
        (tmp_path / "said").write_text("")
        done = subprocess.run(
            ["make", target, "PYTHON=./fake"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        )
        words = (tmp_path / "said").read_text().splitlines()
        return done, [line.split()[1] + " " + line.split()[2] for line in words]

    return run


ANEW = ["venv --clear", "pip install"]


def test_set_up_is_done_once(make):
    done, said = make()
    assert (done.returncode, said[-2:]) == (0, ANEW)
    assert make()[1] == []


def test_an_environment_without_pip_is_made_anew(make, tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "fake", tmp_path / ".venv" / "bin" / "python")
    done, said = make()
    assert (done.returncode, said[-2:]) == (0, ANEW)


def test_an_installation_that_was_killed_starts_anew(make, tmp_path):
    (tmp_path / "kill").touch()
    assert make()[0].returncode != 0
    (tmp_path / "kill").unlink()
    done, said = make()
    assert (done.returncode, said) == (0, ANEW)
    assert make()[1] == []


def test_new_pins_are_installed_into_the_same_environment(make, tmp_path):
    make()
    later = (tmp_path / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert make()[1] == ["pip --version", "pip install"]


def test_clean_says_what_it_leaves(make):
    make()
    done, _ = make("clean")
    for kept in (".venv", "data/cache", "book/records"):
        assert kept in done.stdout.splitlines()[-1]

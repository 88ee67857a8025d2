"""The public names as a type checker sees them in a user's script."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pruning

PACKAGE = Path(pruning.__file__).parent
SCRIPT = Path(__file__).with_name("typed_script.py")
MISTAKES = """
import torch
import pruning

model = pruning.models.mlp((4, 3, 2))
pruning.gate(model, granularity="neuron")
pruning.prune_by_score(model, pruning.magnitude(model), 0.5, scope="everything")
pruning.models.mlp((4, 3, 2), activation="softmax")
pruning.RigL(weights=3, allocation="equal")
pruning.harden(model, at_most=0.5)
kept: int = pruning.density(model)
pruning.prune_everything(model)
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> dict[str, list[str]]:
    """What mypy says of the script and of the mistakes, {file name: lines}."""
    wrong = tmp_path_factory.mktemp("types") / "mistakes.py"
    wrong.write_text(MISTAKES)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
    ]
    done = subprocess.run(
        [*command, "--cache-dir", PACKAGE.parent / ".mypy_cache", SCRIPT, wrong],
        env=os.environ | {"MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, (
        done.stdout + done.stderr
    )  # 2 would mean that mypy could not run
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    return {
        path.name: [each for each in lines if path.name in each] for path in (SCRIPT, wrong)
    }


def test_a_script_with_every_public_name_is_right(complaints):
    assert not complaints[SCRIPT.name]


def test_the_script_has_every_public_name():
    used = set(re.findall(r"pruning\.(\w+)", SCRIPT.read_text()))
    assert set(pruning.__all__) <= used, sorted(set(pruning.__all__) - used)


def test_each_mistake_is_found(complaints):
    lines = [i for i, line in enumerate(MISTAKES.splitlines(), 1) if "pruning." in line][1:]
    assert [
        int(re.search(r":(\d+): error", each)[1]) for each in complaints["mistakes.py"]
    ] == lines


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()

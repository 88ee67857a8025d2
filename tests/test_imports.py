"""What is loaded when: the package and its command answer before the heavy libraries are
there."""

import re
import subprocess
import sys

import pruning

HEAVY = {
    "joblib",
    "matplotlib",
    "pandas",
    "pooch",
    "scipy",
    "seaborn",
    "sklearn",
    "torchvision",
}


def loaded(*command: str) -> set[str]:
    """Top-level modules that a command of Python imports, from what ``-X importtime``
    reports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    names = re.findall(r"^import time:[^|]*\|[^|]*\| *([\w.]+)$", done.stderr, re.MULTILINE)
    return {name.split(".")[0] for name in names}


def test_the_package_loads_nothing_heavy():
    assert not loaded("-c", "import pruning") & (HEAVY | {"torch"})


def test_help_and_the_list_of_chapters_load_nothing_heavy():
    for arguments in (["--help"], ["sweep", "--help"], ["chapters"]):
        assert not loaded("-m", "pruning", *arguments) & (HEAVY | {"torch", "numpy"}), (
            arguments
        )


def test_pruning_a_network_needs_torch_alone():
    work = (
        "import torch, pruning; model = pruning.models.mlp((4, 3, 2));"
        " pruning.prune_by_score(model, pruning.magnitude(model), 0.5);"
        " pruning.effective_weights(model)"
    )
    assert not loaded("-c", work) & HEAVY


def test_a_sweep_needs_torch_only_where_its_runs_do():
    assert not loaded("-c", "import pruning.evidence.sweep, pruning.evidence.runs") & {"torch"}


def test_public_names_are_there_without_having_been_used():
    work = (
        "import pruning; names = set(dir(pruning)); assert names >= set(pruning.__all__);"
        " assert {'gate', 'datasets', 'training', 'compact'} <= names; missing = [n for n in"
        " pruning.__all__ if not hasattr(pruning, n)]; assert not missing, missing"
    )
    assert "pandas" not in loaded("-c", work)


def test_public_modules_can_be_imported_from():
    work = (
        "from pruning.export import to_onnx; from pruning.models import mlp; from"
        " pruning.datasets import load; import pruning.models, pruning.networks.models,"
        " pruning.data.datasets; assert pruning.models is pruning.networks.models;"
        " assert pruning.datasets is pruning.data.datasets; assert mlp is"
        " pruning.networks.models.mlp; assert to_onnx is pruning.export.to_onnx"
    )
    assert "pandas" not in loaded("-c", work)


def test_a_wrong_name_is_an_attribute_error():
    assert not hasattr(pruning, "prune_everything")

"""A sweep of a ResNet that is killed twenty times leaves the record of one that was not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pruning import chapters
from pruning.evidence import records

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
# what may differ: when and how long. All else is compared, in full
TIMES = {"training_seconds", "provenance.finished", "provenance.seconds"}


def flat(record):
    """A record with the fields of its provenance beside all others."""
    origin = {f"provenance.{name}": value for name, value in record["provenance"].items()}
    return {name: value for name, value in record.items() if name != "provenance"} | origin


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_twenty_kills_change_no_bit_of_a_record(tmp_path):
    command = [sys.executable, "-m", "tests.chapters.killed_sweep", str(tmp_path), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == KILLS, "the sweep ended before it was killed often enough"
    found = {}
    for name in ("whole", "killed"):
        path = tmp_path / name / "records.jsonl"
        (record,) = records.read(path, chapters.kinds("resnet_pruning"))
        found[name] = flat(record)
        # the checkpoint of a finished run is gone; a write that was cut off may be left, under
        # a temporary name of ours or of safetensors
        assert list((tmp_path / name / "checkpoints").glob("*.safetensors")) == []
    assert found["whole"].keys() >= TIMES
    whole, killed = (
        {field: value for field, value in record.items() if field not in TIMES}
        for record in found.values()
    )
    assert killed == whole

"""What every chapter must bring. The chapters are found by looking."""

import dataclasses
import re
from pathlib import Path

import pytest

from pruning import chapters
from pruning.data import datasets
from pruning.pages import scoreboard

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", chapters.names())
def test_an_experiment_lists_runs_of_frozen_configs(name):
    experiment = chapters.part(name, "experiment")
    configs = experiment.configs("paper")
    assert configs
    for config in configs:
        assert dataclasses.is_dataclass(config)
        assert hash(config) == hash(dataclasses.replace(config))
        assert {"seed", "method", "study"} <= {
            field.name for field in dataclasses.fields(config)
        }
    assert {config.seed for config in experiment.configs("paper", 1)} <= {
        config.seed for config in configs
    }
    assert callable(experiment.run)
    with pytest.raises(ValueError, match="profile: got 'none'"):
        experiment.configs("none")


@pytest.mark.parametrize("name", chapters.names())
def test_its_runs_are_on_data_sets_that_it_names(name):
    experiment = chapters.part(name, "experiment")
    suited = getattr(experiment, "DATASETS", ())
    assert set(suited) <= datasets.READERS.keys()
    for config in experiment.configs("paper"):
        assert getattr(config, "dataset", None) in (
            suited or (None, config.__dict__.get("dataset"))
        )


@pytest.mark.parametrize("name", chapters.names())
def test_its_title_is_a_line(name):
    assert 10 < len(chapters.title(name)) < 120


@pytest.mark.parametrize("name", chapters.names())
def test_its_claims_name_their_records_rule_and_figure(name):
    for identity, claim in scoreboard.of(name).items():
        assert re.fullmatch(r"[A-Z]+\d+", identity)
        assert claim["records"] in chapters.names()
        assert claim["where"]
        assert claim["figure"]


def test_nothing_else_in_the_package_knows_a_chapter_by_name():
    names = "|".join(chapters.names())
    for path in (ROOT / "pruning").rglob("*.py"):
        if chapters.FOLDER in path.parents and path.parent != chapters.FOLDER:
            continue
        imports = re.findall(
            rf"^\s*(?:from|import) pruning\.chapters\.(?:{names}).*", path.read_text(), re.M
        )
        assert not imports, (path, imports)


def test_no_chapter_is_listed_in_the_makefile():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [name for name in chapters.names() if name in text]


def test_another_chapter_is_an_error_that_lists_the_right_ones():
    with pytest.raises(
        ValueError, match=r"chapter: got 'nothing', needs one of \['attributions', 'com"
    ):
        chapters.part("nothing", "experiment")

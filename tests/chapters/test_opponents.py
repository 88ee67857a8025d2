import dataclasses

import matplotlib.pyplot as plt
import pytest

from pruning.chapters.opponents import experiment, figures, tables
from pruning.comparison import LENET_WEIGHTS
from pruning.evidence import configs as flat


@pytest.mark.parametrize("weights", experiment.SHARES)
@pytest.mark.parametrize("method", experiment.SPACES)
def test_every_method_is_given_as_many_different_settings(method, weights):
    runs = experiment.searches(weights, method)
    assert len(runs) == len(set(runs)) == experiment.TRIED
    assert all(run.split == "validation" for run in runs)
    assert {round(run.density * LENET_WEIGHTS) for run in runs} == {weights}
    space = experiment.SPACES[method]
    for name, values in space.items():
        values = [
            experiment.SHARES[weights] if v == experiment.BY_GATES else v for v in values
        ]
        assert {getattr(run.settings, name) for run in runs} <= set(values)
    first = experiment.tried(method, weights)[0]
    assert [first[n] for n in space if n != "allocation"] == [
        values[0] for n, values in space.items() if n != "allocation"
    ]


def of(config, accuracy, **more):
    """A record of a run, as far as this chapter reads it."""
    name = "test_accuracy" if config.split == "test" else "validation_accuracy"
    weights = round(config.density * LENET_WEIGHTS)
    return flat.flat(config) | {"kept": weights, "effective": weights, name: accuracy} | more


def test_the_best_of_the_search_trains_on():
    runs = experiment.searches(404, "synflow")
    found = [of(run, 0.5) for run in runs[:5]]
    found[3]["validation_accuracy"] = 0.7
    assert experiment.chosen(404, "synflow", found) == experiment.tried("synflow", 404)[3]
    # other numbers of weights and other methods have searches of their own
    assert experiment.chosen(1065, "synflow", found) == experiment.tried("synflow", 1065)[0]
    assert experiment.chosen(404, "rigl", found) == experiment.tried("rigl", 404)[0]


def test_profiles(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path))
    search, paper = experiment.configs("search"), experiment.configs("paper")
    count = len(experiment.SPACES) * len(experiment.SHARES)
    assert len(set(search)) == len(search) == count * experiment.TRIED
    assert {config.method for config in search[: len(experiment.SPACES)]} == set(
        experiment.SPACES
    )
    assert len(set(paper)) == len(paper) == count * experiment.SEEDS
    assert all(config.split == "test" for config in paper)
    with pytest.raises(ValueError, match="profile: got 'slow'"):
        experiment.configs("slow")


@pytest.fixture
def evidence():
    searched = [of(run, 0.6) for run in experiment.searches(404, "synflow")[:4]]
    best = experiment.searches(404, "synflow")[0]
    tested = [
        of(
            dataclasses.replace(best, split="test", study="opponents", seed=seed),
            0.9 + 0.01 * seed,
        )
        for seed in range(2)
    ]
    return searched + tested


GATES = [
    {"method": "gates", "density": w / LENET_WEIGHTS, "kept": w, "effective": w, "seed": s}
    | {"test_accuracy": 0.96}
    for w in (404, 1060)
    for s in range(3)
]


def test_the_table_and_the_margin(evidence):
    table = tables.comparison(evidence, GATES)
    at = table[table.weights == 404].set_index("method")
    assert at.index.tolist() == ["gates", "SynFlow"]
    assert at["mean"].tolist() == pytest.approx([96, 90.5])
    assert at.tried.tolist() == [0, 4]
    assert at.seeds.tolist() == [3, 2]
    assert tables.margin(table, 404).startswith("at 404 weights +5.5 points on SynFlow")
    assert "nothing is on record" in tables.margin(table, 1065)
    searched = tables.searched(evidence)
    assert searched.tried.tolist() == ["4 of 20"]
    assert tables.searched([]).empty


def test_published_points_and_the_figure(evidence):
    published = tables.published()
    assert {point["name"] for point in published} == {
        "DST",
        "SNIP",
        "DNS",
        "L-OBS",
        "Sparse VD",
        "LC",
    }
    assert all(point["source"] for point in published)
    assert all(
        2000 < point["weights"] < 7000 and 96 < point["accuracy"] < 99 for point in published
    )
    tested = [r for r in evidence if r["study"] == "opponents"]
    fig, ax = plt.subplots()
    figures.frontier(tested, GATES, published, ax)
    labels = {line.get_label() for line in ax.lines}
    assert labels == {"learnable gates", "SynFlow, before training", "published by others"}
    plt.close(fig)
    assert "2 runs" in figures.caption(tested, GATES)

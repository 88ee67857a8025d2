import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
import torch

from pruning.chapters.opponents import experiment, figures, tables
from pruning.comparison import LENET_WEIGHTS
from pruning.evidence import configs as flat


@pytest.mark.parametrize("weights", experiment.SHARES)
@pytest.mark.parametrize("method", experiment.SPACES)
def test_every_method_is_given_as_many_different_settings(method, weights):
    for runs in (experiment.screens(weights, method), experiment.searches(weights, method)):
        assert len(runs) == len(set(runs)) == experiment.TRIED
        assert all(run.split == "validation" for run in runs)
        assert {round(run.density * LENET_WEIGHTS) for run in runs} == {weights}
    space = experiment.SPACES[method]
    settings = experiment.tried(method, weights)
    for name, values in space.items():
        values = [
            experiment.SHARES[weights] if v == experiment.BY_GATES else v for v in values
        ]
        if (method, name) == ("gates", "alpha"):  # the fewer weights, the stronger the pull
            values = [value * (404 / weights) for value in values]
        assert {each[name] for each in settings} <= set(values)
        assert settings[0][name] == values[0]
    assert {each.get("at_most") for each in settings} == {
        weights if method == "gates" else None
    }


def test_short_runs_take_a_fifth_of_the_epochs():
    short, full = (f(404, "rigl")[0] for f in (experiment.screens, experiment.searches))
    assert 5 * (short.epochs + short.finetune_epochs) == full.epochs + full.finetune_epochs
    assert full.epochs == 3 * full.finetune_epochs
    assert short.epochs == 3 * short.finetune_epochs


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
    # a short run is not a part of the second round
    short = [of(run, 0.9) for run in experiment.screens(404, "rigl")]
    assert experiment.chosen(404, "rigl", short) == experiment.tried("rigl", 404)[0]


def test_the_second_round_has_the_first_setting_and_the_best_others():
    short = [of(run, 0.5) for run in experiment.screens(404, "rigl")]
    assert len(experiment.finalists(404, "rigl", short)) == experiment.FINALISTS
    short[7]["validation_accuracy"], short[4]["validation_accuracy"] = 0.9, 0.8
    assert experiment.finalists(404, "rigl", short) == [0, 7, 4]
    short[0]["validation_accuracy"] = 0.95  # it is in anyway
    assert experiment.finalists(404, "rigl", short) == [0, 7, 4]
    assert experiment.finalists(404, "rigl", short[:1]) == [0]
    assert experiment.finalists(1065, "rigl", short) == [0]


def test_profiles(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path))
    screen, search, paper = (experiment.configs(p) for p in ("screen", "search", "paper"))
    count = len(experiment.SPACES) * len(experiment.SHARES)
    assert len(set(screen)) == len(screen) == count * experiment.TRIED
    assert len(set(search)) == len(search) == count  # nothing is screened yet
    assert len(set(paper)) == len(paper) == count * experiment.SEEDS
    assert all(config.split == "test" for config in paper)
    strong = len(experiment.STRONG)
    assert {config.method for config in paper[:strong]} == set(experiment.STRONG)
    assert set(experiment.STRONG) <= set(experiment.SPACES)
    with pytest.raises(ValueError, match="profile: got 'slow'"):
        experiment.configs("slow")


def test_the_search_multiplies_in_bfloat16_and_the_measurement_in_float32():
    before = torch.get_float32_matmul_precision()
    config = next(c for c in experiment.configs("quick") if c.method == "random")
    config = dataclasses.replace(config, epochs=1, finetune_epochs=1)
    assert experiment.run(config)["matmul_precision"] == "highest"
    tried = dataclasses.replace(config, study="screen", split="validation")
    assert experiment.run(tried)["matmul_precision"] == "medium"
    assert torch.get_float32_matmul_precision() == before


def measured(method, accuracies):
    best = experiment.searches(404, method)[0]
    return [
        of(dataclasses.replace(best, split="test", study="opponents", seed=seed), accuracy)
        for seed, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def evidence():
    return [
        *(of(run, 0.6) for run in experiment.searches(404, "synflow")[:3]),
        *(of(run, 0.5) for run in experiment.screens(404, "synflow")),
        *measured("gates", (0.96, 0.962, 0.958)),
        *measured("synflow", (0.90, 0.91, 0.92)),
        *measured("rigl", (0.955, 0.965, 0.951)),
    ]


def test_the_table_and_the_margin(evidence):
    table = tables.comparison(evidence)
    at = table.set_index("method")
    assert at.index.tolist() == ["gates", "rigl", "synflow"]
    assert at["mean"].tolist() == pytest.approx([96, 95.7, 91])
    assert at.screened.tolist() == [0, 0, 20]
    assert at.searched.tolist() == [0, 0, 3]
    half = scipy.stats.t.ppf(0.975, 2) * 1 / 3**0.5
    assert [at.low["synflow"], at.high["synflow"]] == pytest.approx([91 - half, 91 + half])
    assert at.lead["synflow"] == pytest.approx(5)
    assert np.isnan(at.lead["gates"])
    alone = [
        scipy.stats.ttest_ind(
            (96, 96.2, 95.8), theirs, equal_var=False, alternative="greater"
        ).pvalue
        for theirs in ((95.5, 96.5, 95.1), (90, 91, 92))
    ]
    assert at.p["rigl"] == pytest.approx(alone[0])
    assert at.p["synflow"] == pytest.approx(2 * alone[1])  # Holm: two comparisons
    said = tables.margin(table, 404)
    assert "gates reach **96.00 %** and are not clearly ahead of" in said
    assert "RigL, with 95.70 % (+0.30 points, 3 seeds)" in said
    assert "not on record" in tables.margin(table, 1065)
    assert tables.answer(table)[0].startswith("Gates are clearly ahead in 1 of 2 comparisons.")
    assert tables.shown(table).interval[2] == f"[{91 - half:.2f}, {91 + half:.2f}]"


def test_gates_that_are_behind_are_said_to_be():
    table = tables.comparison(
        measured("gates", (0.9, 0.91, 0.9)) + measured("rigl", (0.95,) * 3)
    )
    said = tables.margin(table, 404)
    assert "gates reach **90.33 %** and are behind the best opponent, RigL" in said
    assert tables.answer(table)[0].startswith("Gates are clearly ahead in 0 of 1 comparisons.")


def test_the_first_look_ranks_what_was_tested(evidence):
    part = [r for r in evidence if r["study"] == "opponents"]
    look = tables.first_look([r | {"test_accuracy": r.get("test_accuracy")} for r in evidence])
    assert len(look) == len(part)
    assert look["test accuracy"].is_monotonic_decreasing
    assert look.method.iloc[0] == "RigL"


def test_what_the_search_found_and_what_is_missing(evidence):
    searched = tables.searched(evidence)
    assert searched.accuracy.tolist() == pytest.approx([60])
    assert tables.searched([]).empty
    every = tables.missing([])
    for weights in ("404", "1,065", "2,662"):
        assert f"with {weights} weights for gates, gradual, L0, variational dropout" in every
    runs = sum(len(experiment.configs(p)) for p in ("screen", "paper"))
    said = every.partition("up to ")[2].partition(" ")[0]
    assert int(said) > runs


def test_nothing_is_missing_once_every_method_has_all_its_seeds():
    complete = [
        of(config, 0.9)
        for weights in experiment.SHARES
        for seed in range(experiment.SEEDS)
        for config in experiment.best(weights, seed, [])
    ]
    assert tables.missing(complete) == ""
    without = [r for r in complete if (r["method"], r["seed"], r["kept"]) != ("set", 4, 1065)]
    assert ": with 1,065 weights for SET. A method" in tables.missing(without)


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
    found = tables.final(evidence)
    fig, axes = plt.subplots(2)
    figures.ranking(found, tables.comparison(evidence), 404, axes[0], 92.0)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == [
        "gates",
        "RigL",
        "SynFlow",
    ]
    assert [text.get_text() for text in axes[0].texts] == ["91.0 %"]
    figures.frontier(found, published, axes[1])
    labels = {line.get_label() for line in axes[1].lines if line.get_label()[0] != "_"}
    assert not labels  # they stand at the right
    names = {text.get_text() for text in axes[1].texts}
    assert names == {"gates, mean", *(point["name"] for point in published)}
    plt.close(fig)
    assert "9 runs, up to 3 seeds" in tables.caption(found)
    sources = tables.sources(published)
    assert len(sources) == len(published)
    assert list(sources.columns) == ["method", "weights", "accuracy (%)", "source"]
    assert "9 runs" in tables.published_caption(found)

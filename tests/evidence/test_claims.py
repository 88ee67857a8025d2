import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.stats

from pruning import chapters, cli
from pruning.chapters.relative_importance.rules import (
    best_in_cells,
    clear,
    gains,
    improves,
    leads,
    reaches,
)
from pruning.data import datasets
from pruning.evidence import claims, records, runs, statistics
from pruning.pages import scoreboard

ROOT = Path(__file__).resolve().parents[2]


TIMES = {"finished": "2026-11-24T12:00:00+00:00", "seconds": 1.0}


def rest_after(record, rest):
    """A record whose metrics come last, as in every record."""
    return {k: v for k, v in record.items() if k not in rest} | rest | record


def put(folder, *found):
    for record in found:
        base = {"split": "test", "study": "curves", "dataset": "mnist"}
        rest = measured(400, record.get("dataset", "mnist"))
        records.append(folder / "compression_curves.jsonl", base | rest_after(record, rest))


def measured(kept, dataset):
    """Metrics of a network with `kept` weights, all in its first layer."""
    known = datasets.registry()[dataset]
    return {
        "dense_weights": 300 * known["features"] + 300 * 100 + 100 * known["classes"],
        "kept": kept,
        "kept_by_layer": [kept, 0, 0],
        "effective": kept,
        "biases": 400,
        "validation_accuracy": None,
        "provenance": runs.provenance() | TIMES,
    }


def gates(seed, accuracy, **more):
    return {
        "method": "gates",
        "density": 0.00144,
        "seed": seed,
        "test_accuracy": accuracy,
    } | more


def put_smallest(folder, *found):
    for record in found:
        base = {"split": "test", "study": "frontier", "dataset": "mnist", "at_most": 404}
        rest = measured(404, record.get("dataset", "mnist"))
        records.append(folder / "smallest.jsonl", base | rest_after(record, rest))


def verdict(folder, name):
    return scoreboard.board(folder=folder).set_index("id").loc[name]


def test_all_claims_of_the_papers_are_listed():
    ids = [claim["id"] for _, claim in scoreboard.all_claims()]
    assert ids == [
        *(f"G{i}" for i in range(1, 10)),
        *(f"R{i}" for i in range(1, 5)),
        *(f"S{i}" for i in range(1, 4)),
    ]
    cited = {claim["paper"] for _, claim in scoreboard.all_claims()}
    keys = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text()))
    assert cited <= keys


def test_without_records_nothing_is_measured(tmp_path):
    assert set(scoreboard.board(folder=tmp_path).verdict) == {statistics.NOT_MEASURED}


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.95, 0.96, 0.95], statistics.REPRODUCED),
        ([0.93, 0.945, 0.92], statistics.PARTLY),  # the best seed only
        ([0.93, 0.92, 0.92], statistics.NOT_REPRODUCED),
        ([0.95, 0.96], statistics.NOT_MEASURED),  # two seeds are no evidence
    ],
)
def test_at_least(tmp_path, accuracies, expected):
    put_smallest(
        tmp_path, *(gates(seed, accuracy) for seed, accuracy in enumerate(accuracies))
    )
    put_smallest(
        tmp_path, gates(7, 0.99, at_most=500), gates(8, 0.99, dataset="digits")
    )  # neither counts
    found = verdict(tmp_path, "G1")
    assert found.verdict == expected
    assert found.seeds == len(accuracies)
    assert f"the best of them {100 * max(accuracies):.2f} %" in found.ours


def test_at_least_counts_the_weights():
    claim = {"value": 0.94, "weights": 404}
    found = pandas.DataFrame([gates(seed, 0.95, kept=405) for seed in range(3)])
    assert statistics.at_least(claim, found)[0] == statistics.NOT_REPRODUCED
    found.loc[len(found)] = gates(3, 0.95, kept=404)
    assert statistics.at_least(claim, found)[0] == statistics.PARTLY


def test_ahead_needs_every_competitor_on_record(tmp_path):
    for seed in range(3):
        put(tmp_path, gates(seed, 0.95, density=0.01))
        put(tmp_path, gates(seed, 0.90, density=0.01, method="dense"))
    assert verdict(tmp_path, "G2").verdict == statistics.NOT_MEASURED
    assert "Runs of DeepR and SET are not on record." in verdict(tmp_path, "G2").ours
    for seed in range(3):
        put(tmp_path, gates(seed, 0.94, density=0.01, method="deepr"))
        put(tmp_path, gates(seed, 0.96, density=0.01, method="set"))
    assert verdict(tmp_path, "G2").verdict == statistics.PARTLY
    assert "of SET at 0 of 1 densities" in verdict(tmp_path, "G2").ours
    put(
        tmp_path, gates(0, 0.99, density=0.01, method="snip")
    )  # one seed of another method is no matter
    assert verdict(tmp_path, "G2").seeds == 3


@pytest.mark.parametrize(
    ("gated", "random", "expected"),
    [
        (0.849, 0.76, statistics.REPRODUCED),
        (0.830, 0.76, statistics.PARTLY),  # far from the dense network
        (0.849, 0.848, statistics.PARTLY),  # not far above random
        (0.800, 0.80, statistics.NOT_REPRODUCED),
    ],
)
def test_stays_high(tmp_path, gated, random, expected):
    for seed in range(3):
        noise = 0.002 * (seed - 1)
        put(
            tmp_path,
            gates(seed, gated + noise, dataset="income", density=0.01),
            gates(seed, random + noise, dataset="income", density=0.01, method="random"),
            gates(seed, 0.85 + noise, dataset="income", density=1.0, method="dense"),
        )
    assert verdict(tmp_path, "G3").verdict == expected


def test_a_claim_with_a_missing_field_or_an_unknown_rule(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("- {id: X1, paper: p, place: q}\n")
    with pytest.raises(ValueError, match=r"claim 'X1' lacks \['claim'\]"):
        claims.read(path, {})
    path.write_text("- {id: X1, paper: p, place: q, claim: r, rule: guess}\n")
    with pytest.raises(ValueError, match="X1 has rule 'guess'"):
        claims.read(path, {})


def test_the_command_prints_every_claim(capsys):
    assert cli.main(["claims"]) == 0
    said = capsys.readouterr().out
    assert all(claim["id"] in said for _, claim in scoreboard.all_claims())


def test_html_escapes_and_names_every_claim():
    board = scoreboard.board().assign(claim="a < b")
    page = scoreboard.as_html(board)
    assert "a &lt; b" in page
    assert page.count("<li>") == len(board)
    assert 'href="smallest.html"' not in page  # G1's records are there, its chapter is another
    titled = '<a href="relative_importance.html">Relative importance: do small'
    assert page.count(titled) == 4
    assert not re.search(r"(?<!\w)-\d", re.sub(r"<[^>]+>", "", page))
    tally = scoreboard.tally_html(board)
    assert f"{len(board)} claims:" in tally
    counts = [int(n) for n in re.findall(r"</span> (\d+)", tally)]
    assert sum(counts) == len(board)


def test_committed_records_are_sound(capsys):
    assert cli.main(["records", "check"]) == 0
    said = capsys.readouterr().out
    for path in (ROOT / "book" / "records").glob("*.jsonl"):
        assert f"{path}: " in said


def test_committed_records_are_whole_and_tell_their_origin():
    for path in (ROOT / "book" / "records").glob("*.jsonl"):
        assert path.read_bytes().endswith(b"\n"), path
        for record in chapters.evidence(path.stem):
            assert {
                "method",
                "dataset",
                "seed",
                "kept",
                "effective",
                "test_accuracy",
            } <= record.keys()
            origin = record["provenance"]
            assert {"commit", "versions", "device", "seconds"} <= origin.keys()
            assert "data" in origin or record["dataset"] == "generated"
            accuracy = record["test_accuracy"]
            assert accuracy is None or 0 <= accuracy <= 1


def relative(seed, accuracy, **more):
    base = {
        "method": "relative",
        "kind": "absolute",
        "blind": True,
        "scope": "global",
        "study": "table",
    }
    base |= {
        "activation": "relu",
        "activity": 0.0,
        "sparsity": 0.75,
        "finetune_epochs": 0,
        "seed": seed,
    }
    return base | {"test_accuracy": accuracy, "unpruned_accuracy": 0.98} | more


CLAIM = {
    "cells": ["activation", "sparsity"],
    "ours": {"method": "relative"},
    "others": ["magnitude", "wanda"],
}


@pytest.mark.parametrize(
    ("wanda", "tanh", "expected", "words"),
    [
        (
            0.95,
            0.95,
            statistics.REPRODUCED,
            "in 2 of 2 cases and clearly behind in 0. A case is an activation and a sparsity.",
        ),
        (
            0.95,
            0.99,
            statistics.PARTLY,
            "in 1 of 2 cases and clearly behind in 1. A case is an activation and a sparsity.",
        ),
        (0.99, 0.99, statistics.NOT_REPRODUCED, "in 0 of 2"),
    ],
)
def test_best_in_cells_compares_with_the_best_threshold_of_each(wanda, tanh, expected, words):
    found = []
    for seed in range(3):
        noise = 0.001 * seed
        for activation, rival in (("relu", wanda), ("tanh", tanh)):
            here = {"activation": activation}
            found += [
                relative(seed, 0.97 + noise, **here),
                relative(seed, 0.90, method="magnitude", **here),
                relative(seed, rival + noise, method="wanda", scope="layer", **here),
                relative(
                    seed, 0.50, method="wanda", scope="neuron", **here
                ),  # its worse threshold
            ]
    verdict, seeds, ours = best_in_cells(CLAIM, records.table(found))
    assert (verdict, seeds) == (expected, 3)
    assert words in ours
    assert (
        best_in_cells(CLAIM, records.table(found).query("seed < 2"))[0]
        == statistics.NOT_MEASURED
    )


def test_leads_and_lags_are_tests_of_two_sides():
    # of two degrees of freedom p is 0.037 on one side and 0.074 on both
    near = pandas.Series([1.0, 2.0, 3.0])
    far = near + 5
    p = scipy.stats.ttest_1samp(near, 0).pvalue
    assert p / 2 < statistics.LEVEL < p
    for sign in (1, -1):
        sides = clear([("near", sign * near)]), clear([("far", sign * far)])
        assert [[bool(side.iloc[0]) for side in found] for found in sides] == [
            [False, False],
            [sign > 0, sign < 0],
        ]


def test_leads_are_of_the_seeds_and_cells_of_the_method_itself():
    found = [relative(seed, 0.96) for seed in range(3)]
    found += [relative(seed, 0.95, method="wanda", scope="layer") for seed in range(5)]
    lead = leads(CLAIM, records.table(found))
    assert list(lead.index) == [0, 1, 2]
    assert list(lead.columns.names) == CLAIM["cells"]
    assert lead["relu", 0.75].tolist() == pytest.approx([0.01] * 3)


@pytest.mark.parametrize(
    ("relu", "tanh", "expected"),
    [
        (0.97, 0.97, statistics.REPRODUCED),
        (0.97, 0.95, statistics.PARTLY),
        (0.95, 0.95, statistics.NOT_REPRODUCED),
    ],
)
def test_improves(relu, tanh, expected):
    found = []
    for seed in range(3):
        for activation, accuracy in (("relu", relu), ("tanh", tanh)):
            found += [
                relative(seed, 0.96 + 0.01 * seed, activation=activation),
                relative(seed, accuracy + 0.01 * seed, activation=activation, activity=0.3),
            ]
    claim = {"cells": ["activation"], "ours": {"activity": 0.3}, "base": {"activity": 0}}
    verdict, seeds, ours = improves(claim, records.table(found))
    assert (verdict, seeds) == (expected, 3)
    assert f"{100 * (relu - 0.96):+.2f} points" in ours


GAINS = {
    "cells": ["sparsity", "finetune_epochs"],
    "value": 0.0113,
    "method": "relative",
    "control": "unpruned",
}


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (0.998, statistics.REPRODUCED),
        (0.985, statistics.PARTLY),
        (0.981, statistics.NOT_REPRODUCED),
    ],
)
def test_gains_are_over_the_unpruned_network_that_was_fine_tuned_alike(accuracy, expected):
    found = [
        relative(seed, accuracy + 0.0005 * (seed - 1), finetune_epochs=1) for seed in range(3)
    ]
    found += [relative(seed, 0.90, sparsity=0.5, finetune_epochs=1) for seed in range(3)]
    assert gains(GAINS, records.table(found))[0] == statistics.NOT_MEASURED  # no control
    control = {"method": "unpruned", "sparsity": 0.0}
    found += [
        relative(seed, 0.97, **control) for seed in range(3)
    ]  # not fine-tuned: no control either
    assert gains(GAINS, records.table(found))[0] == statistics.NOT_MEASURED
    found += [relative(seed, 0.981, finetune_epochs=1, **control) for seed in range(3)]
    verdict, seeds, ours = gains(GAINS, records.table(found))
    assert (verdict, seeds) == (expected, 3)
    assert f"at most {100 * (accuracy - 0.981):.2f} ± 0.05 [" in ours
    assert "fine-tuned alike (75 % removed, fine-tuned)" in ours


def test_the_more_cells_the_more_a_gain_must_show():
    """A p-value of 0.03 is a gain in one cell, and chance among ten."""
    found = [relative(seed, 0.98, method="unpruned", sparsity=0.0) for seed in range(3)]
    found += [relative(seed, 0.98 + gain) for seed, gain in enumerate((0.002, 0.003, 0.005))]
    assert statistics.above(pandas.Series([0.002, 0.003, 0.005])) == pytest.approx(
        0.0317, abs=1e-4
    )
    claim = GAINS | {"cells": ["sparsity"]}
    assert gains(claim, records.table(found))[0] == statistics.PARTLY
    for cell in range(1, 10):
        found += [
            relative(seed, 0.97 + 0.001 * seed, sparsity=0.01 * cell) for seed in range(3)
        ]
    assert gains(claim, records.table(found))[0] == statistics.NOT_REPRODUCED


REACHES = {
    "cells": ["kind", "scope"],
    "value": 0.9763,
    "chosen": {"kind": "absolute", "scope": "global"},
    "named": {"kind": "relative"},
}


@pytest.mark.parametrize(
    ("absolute", "normalised", "expected", "clear"),
    [
        (0.979, 0.978, statistics.REPRODUCED, "4 are"),
        (0.979, 0.975, statistics.PARTLY, "2 are"),
        (0.9764, 0.975, statistics.NOT_REPRODUCED, "none is"),  # above, but not clearly
    ],
)
def test_a_value_reached_by_another_reading_is_partly(absolute, normalised, expected, clear):
    found = [
        relative(seed, mean + 0.0005 * (seed - 1), kind=kind, scope=scope, kept=66_550)
        for seed in range(3)
        for kind, mean in (("absolute", absolute), ("relative", normalised))
        for scope in ("global", "layer")
    ]
    verdict, seeds, ours = reaches(REACHES, records.table(found))
    assert (verdict, seeds) == (expected, 3)
    assert f"has at most {100 * normalised:.2f}" in ours
    assert "Of 4 combinations of reading, threshold and training, " in ours
    assert f", {4 if normalised > 0.9763 else 2} have a mean that reaches" in ours
    assert ours.endswith(f" into account, {clear} clearly above it.")


def test_a_mean_at_the_value_itself_reaches_it():
    found = [relative(seed, 0.5, kept=100) for seed in range(3)]
    claim = REACHES | {"value": 0.5, "named": {"kind": "absolute"}}
    said = reaches(claim, records.table(found))[2]
    assert ", 1 have a mean that reaches the paper's number. For 0 of these" in said
    found += [relative(seed, 0.25, method="unpruned", sparsity=0.0) for seed in range(3)]
    verdict, _, said = gains(GAINS | {"value": 0.25}, records.table(found))
    assert verdict == statistics.REPRODUCED
    assert "at most 25.00 ± 0.00 points above" in said


def test_rules_of_relative_importance_need_both_sides_and_three_seeds():
    nothing, table = (statistics.NOT_MEASURED, 0, ""), records.table
    ours = [relative(seed, 0.96) for seed in range(3)]
    theirs = [
        relative(seed, 0.90, method=method) for seed in range(3) for method in CLAIM["others"]
    ]
    assert best_in_cells(CLAIM, table(ours)) == best_in_cells(CLAIM, table(theirs)) == nothing
    assert best_in_cells(CLAIM, table(ours + theirs))[:2] == (statistics.REPRODUCED, 3)
    assert best_in_cells(CLAIM, table(ours[:2] + theirs))[:2] == (statistics.NOT_MEASURED, 2)

    penalised = [relative(seed, 0.97, activity=0.3) for seed in range(3)]
    alone = [relative(seed, 0.96, activation="tanh") for seed in range(3)]
    claim = {"cells": ["activation"], "ours": {"activity": 0.3}, "base": {"activity": 0}}
    assert improves(claim, table(ours)) == improves(claim, table(penalised)) == nothing
    assert improves(claim, table(ours[:2] + penalised))[:2] == (statistics.NOT_MEASURED, 2)
    verdict, seeds, said = improves(claim, table(ours + penalised + alone))
    assert (verdict, seeds) == (statistics.REPRODUCED, 3)
    assert "in 1 of 1 cases and clearly lower in 0." in said
    assert "costs 1.00 points on average with the penalty and 2.00 without." in said

    assert gains(GAINS, pandas.DataFrame()) == reaches(REACHES, pandas.DataFrame()) == nothing
    absent = "In 1 cases this control is not on record."
    assert gains(GAINS, table(ours)) == (
        statistics.NOT_MEASURED,
        0,
        absent,
    )
    control = [relative(seed, 0.95, method="unpruned", sparsity=0.0) for seed in range(3)]
    verdict, seeds, said = gains(GAINS, table(ours + control))
    assert (verdict, seeds) == (statistics.PARTLY, 3)
    assert said.endswith("clearly above it in 1 of 1 cases.")
    assert gains(GAINS, table(ours[:2] + control))[:2] == (statistics.NOT_MEASURED, 2)
    tuned = [relative(seed, 0.96, finetune_epochs=1) for seed in range(3)]
    verdict, seeds, said = gains(GAINS, table(ours + control + tuned))
    assert (verdict, seeds) == (statistics.NOT_MEASURED, 3)
    assert said.endswith(f"clearly above it in 1 of 1 cases. {absent}")


def test_tests_are_scipy_s_own():
    rng = np.random.default_rng(0)
    one, other = pandas.Series(rng.normal(0.5, 1, 6)), pandas.Series(rng.normal(0, 2, 9))
    expected = scipy.stats.ttest_1samp(one, 0.1, alternative="greater").pvalue
    assert statistics.above(one, 0.1) == pytest.approx(expected)
    expected = scipy.stats.ttest_ind(one, other, equal_var=False, alternative="greater").pvalue
    assert statistics.larger(one, other) == pytest.approx(expected)
    same = pandas.Series([0.2] * 5)
    assert (statistics.above(same, 0.1), statistics.above(same, 0.2)) == (0, 1)
    assert (statistics.larger(same, same - 0.1), statistics.larger(same, same)) == (0, 1)
    assert statistics.above(one[:2]) == statistics.larger(one[:2], other) == 1


def test_holm_s_correction():
    # the example of Aickin and Gensler (1996): p = 0.01, 0.04, 0.03, 0.005 become 0.03, 0.06,
    # 0.06, 0.02
    adjusted = statistics.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.7, 0.9]) == pytest.approx([1, 1])
    assert len(statistics.holm([])) == 0


def test_an_interval_is_student_s():
    values = pandas.Series([0.1, 0.2, 0.3, 0.4])
    assert statistics.interval(values) == pytest.approx(
        (0.25 - 0.205426, 0.25 + 0.205426), abs=1e-6
    )  # 3.182446 · s / 2
    assert statistics.estimate(values) == "0.25 ± 0.13 [0.04, 0.46]"
    assert statistics.estimate(values, (0.1, 0.4)) == "0.25 ± 0.13 [0.10, 0.40]"
    assert statistics.estimate(values[:2]) == "0.15 ± 0.07"
    assert statistics.estimate(values[:1]) == "0.10"
    assert statistics.percent(pandas.Series([0.5, 0.5, 0.5])) == "50.00 ± 0.00 %"


def test_intervals_of_the_mean_hold_it_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [
        statistics.interval(pandas.Series(drawn)) for drawn in rng.normal(1, 2, (2000, 5))
    ]
    assert np.mean([low < 1 < high for low, high in found]) == pytest.approx(0.95, abs=0.015)


def test_a_share_has_wilson_s_interval():
    assert statistics.share(pandas.Series([True] * 8 + [False] * 2)) == "80 % [49, 94]"
    assert statistics.share(pandas.Series([True] * 10)) == "100 % [72, 100]"


def test_where_takes_plain_values_and_lists_and_nothing_else():
    frame = records.table(gates(seed, 0.9, blind=seed < 2) for seed in range(4))
    assert list(claims.chosen(frame, {"seed": [0, 3]}).seed) == [0, 3]
    assert list(claims.chosen(frame, {"blind": True, "seed": 1}).seed) == [1]
    without = pandas.concat([frame, pandas.DataFrame([{"seed": 7}])])
    assert list(claims.chosen(without, {"blind": [None]}).seed) == [7]
    assert 7 not in list(claims.chosen(without, {"blind": [True, False]}).seed)
    assert claims.chosen(frame, {"method": "@__import__('os').getcwd()"}).empty
    with pytest.raises(
        ValueError, match=r"where: got \['colour'\], but no record has such a field"
    ):
        claims.chosen(frame, {"colour": "red"})


def test_every_claim_selects_records_of_its_chapter():
    for _, claim in scoreboard.all_claims():
        evidence = records.table(chapters.evidence(claim["records"]))
        assert len(claims.chosen(evidence, claim["where"])), claim["id"]


def test_records_that_are_nowhere_are_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path / "nowhere"))
    assert cli.main(["claims"]) == 1
    said = capsys.readouterr()
    assert "nowhere', which does not exist" in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_mean_is_said_with_its_interval():
    values = pandas.Series([1.0, 2.0, 3.0])
    half = 4.302652729911275 / 3**0.5  # Student's t of two degrees of freedom, standard tables
    said = f"2.00 [{2 - half:.2f}, {2 + half:.2f}]".replace("-", "−")
    assert statistics.mean_interval(values) == said
    assert statistics.mean_interval(values, 1, (0, 4)) == "2.0 [0.0, 4.0]"
    assert statistics.mean_interval(-values[:2]) == "−1.50"
    assert statistics.mean_interval(pandas.Series([5.0] * 4), 0) == "5"

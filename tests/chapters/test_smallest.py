"""The chapter on the smallest networks: what is recorded, and what the tables make of it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest

from pruning import comparison, training
from pruning.chapters.smallest import experiment as smallest
from pruning.chapters.smallest import figures, files, tables
from pruning.evidence import records
from pruning.evidence.configs import changed, flat
from pruning.figures import captions
from pruning.networks import export, sparsity

TINY = changed(smallest.configs("quick")[0], epochs=6, finetune_epochs=2, density=0.1)


def test_a_small_network_is_on_record_whole(digits):
    record = records.run_one(smallest.run, TINY)
    model = smallest.rebuilt(record)
    assert (
        training.evaluate(model, digits.test.inputs, digits.test.targets).accuracy
        == record["test_accuracy"]
    )
    assert sparsity.effective_weights(model) == record["effective"]
    assert int(sparsity.sparsity_report(model).kept.sum()) == record["kept"]
    other = records.run_one(smallest.run, changed(TINY, seed=1))
    assert "connections" not in other  # one seed is enough to draw
    stacked = smallest.run_stack([TINY, changed(TINY, seed=1)])
    assert "connections" in stacked[0]
    assert "connections" not in stacked[1]


def put(seed, accuracy, kept=380, **move):
    config = changed(smallest.BASE, study="ablation", split="validation", seed=seed, **move)
    return flat(config) | {"validation_accuracy": accuracy, "kept": kept}


def test_a_move_is_compared_with_the_same_seed_without():
    found = [put(0, 0.950), put(1, 0.960), put(0, 0.953, tau=3.0), put(1, 0.961, tau=3.0)]
    found += [
        put(0, 0.949, epochs=120, finetune_epochs=40),
        put(0, 0.955, allocation=(0.75, 0.15, 0.10)),
    ]
    found += [put(2, 0.99, tau=3.0)]  # its seed has no run without a move
    table = tables.moves(found)
    assert list(table.index) == [
        "none",
        "τ: 3",
        "layers: 75 : 15 : 10",
        "longer: 120 + 40 epochs",
    ]
    assert list(table.seeds) == [2, 2, 1, 1]
    assert list(table.gain[1:]) == pytest.approx([0.2, 0.5, -0.1])
    assert list(tables.shown_moves(table)["gain (points)"]) == ["–", "+0.20", "+0.50", "−0.10"]
    assert "too few to tell" in tables.clear(table)
    assert tables.gained(found, {"tau": 3.0}) == "+0.20 points (2 seeds)"
    assert tables.gained(found, {"epochs": 120, "finetune_epochs": 40}).endswith("(1 seed)")
    assert tables.gained(found, {"tau": 5.0}) == "–"
    named = tables.labelled(found)
    assert "1 to 2 seeds per point" in captions.caption(named, "search")
    assert " seed 0, 1 run of" in captions.caption(named[:1], "search").replace(" · ", ", ")
    _, ax = plt.subplots()
    figures.gains(tables.labelled(found), ["τ: 3"], ax)
    assert [ax.get_lines()[k].get_markeredgewidth() for k in (1, 3)] == [6, 2]
    assert next(t.get_text() for t in ax.get_yticklabels()) == "τ: 3"
    assert ax.get_lines()[1].get_xdata() == pytest.approx([0.2])
    plt.close("all")


def test_moves_are_clear_where_the_spread_of_all_of_them_says_so():
    gains = {"lr": {3e-3: 0.010, 3e-2: -0.012}, "tau": {3.0: 0.0005, 10.0: 0.011}}
    found = []
    for seed in range(3):
        base = 0.95 + 0.002 * seed
        found.append(put(seed, base))
        for name, values in gains.items():
            for k, (value, gain) in enumerate(values.items()):
                noise = 0.0005 * ((seed + k) % 3 - 1)
                kept = 470 if value == 10.0 else 380
                found.append(put(seed, base + gain + noise, kept, **{name: value}))
    table = tables.moves(found)
    assert tables.clear(table) == (
        "Of 4 moves 2 clearly gain (τ: 10, with 470 weights; weight rate: 0.003) and 1 clearly"
        " loses (weight rate: 0.03). With 3 seeds the other 1 cannot be told from no move."
    )
    expected = "On a validation split, 2 of 4 moved settings gain clearly, and 1 lose clearly"
    assert tables.tallied(table) == expected
    said = tables.shown_moves(table)
    assert said.p.iloc[0] == "–"
    assert float(said.p.iloc[1]) > 0.05
    assert said["gain (points)"].iloc[1].startswith("+0.05 [−0.0")


def test_every_move_is_of_one_kind_and_in_the_search():
    configs = smallest.configs("search", 1)
    assert (
        len(set(configs))
        == len(configs)
        == sum(len(moves) for moves in smallest.MOVES.values())
    )
    assert all(config.split == "validation" for config in configs)
    named = tables.labelled(
        [flat(c) | {"validation_accuracy": 0.9, "kept": 1} for c in configs]
    )
    assert len(named) == len({(r["family"], r["move"]) for r in named}) == len(configs)


def far(density, seed, accuracy, kept, **more):
    return {
        "study": "frontier",
        "density": density,
        "seed": seed,
        "test_accuracy": accuracy,
        "kept": kept,
        "effective": kept,
        "method": "gates",
    } | more


def test_only_the_listed_runs_are_the_frontier():
    wanted = [flat(config) for config in smallest.configs("paper")[:3]]
    earlier = flat(changed(smallest.configs("paper")[0], alpha=7.0))
    assert tables.listed([*wanted, earlier, put(0, 0.95)]) == wanted


def test_the_best_density_within_a_number_of_weights():
    found = [far(0.0015, 0, 0.97, 404), far(0.0015, 1, 0.98, 405)]  # one of them is too large
    found += [far(0.0014, 0, 0.95, 390), far(0.0014, 1, 0.96, 400), far(0.001, 0, 0.9, 260)]
    best = tables.at_most(found)
    assert (best["most"], best["seeds"]) == (400, 2)
    assert best["mean"] == pytest.approx(95.5)
    table = tables.by_budget(found)
    assert list(table["most"]) == [405, 400, 260]
    assert [tables.plus_minus(row) for _, row in table.iterrows()][1:] == [
        "95.50 ± 0.71",
        "90.00",
    ]
    whole = [r | {"connections": []} for r in found]
    assert tables.drawn(whole)["kept"] == 404
    with pytest.raises(ValueError, match="no whole network of at most 100"):
        tables.drawn(whole, 100)


def test_answers_quote_the_records(monkeypatch):
    wanted = [flat(config) for config in smallest.configs("paper")]
    ladder = {404: 0.96, 300: 0.95, 200: 0.93, 150: 0.9, 100: 0.85}
    found = [
        r | {"test_accuracy": ladder[r["at_most"]] + 0.001 * (r["seed"] % 2), "kept": 404}
        for r in wanted
    ]
    without = flat(changed(smallest.BASE, **smallest.CHOSEN, study="frontier"))
    found += [without | {"seed": s, "test_accuracy": 0.959, "kept": 399} for s in range(3)]
    found += [put(0, 0.950), put(0, 0.960, **smallest.CHOSEN)]
    found[0] |= {"effective": 401, "connections": []}
    monkeypatch.setattr(files, "sizes", lambda record: (1_000_000, 4_321))
    first, second, third = tables.answers(found, [far(0.0014, s, 0.958, 400) for s in (0, 1)])
    assert "**96.05 [96.01, 96.09] % with 404 weights**, 95.04 [" in first
    assert "85.04 [84.97, 85.11] % with 100 (" in first
    assert "too few seeds are on record to call any move clear (*Figure 2*)" in second
    assert "gain +1.00 points (1 seed) there" in second
    # of three seeds, 96.0, 96.1, 96.0 against 95.9
    assert "the budget adds 0.13 [−0.01, 0.28] points, with 404 in place of 399" in second
    assert "reach 95.90 %, and the settings before reach 95.80 %, which is no clear" in second
    apart = pandas.Series([0.96, 0.961, 0.963]), pandas.Series([0.90, 0.901, 0.903])
    assert tables._unclear(*apart) == ""
    assert "401 weights is a file of **4,321 bytes**" in third


def test_ahead_counts_points_with_no_more_weights():
    ours = [far(0.001, 0, 0.95, 268), far(0.004, 0, 0.995, 1070)]  # the second has more
    others = [far(0.001, 0, 0.94, 268, method="set"), far(0.004, 0, 0.99, 1064, method="set")]
    others += [far(0.0005, 0, 0.3, 133, method="wanda")]  # we have nothing that small
    others += [far(0.0001, 0, 0.1, 0, method="wanda")]  # no network
    assert (
        tables.ahead(ours, others) == "SET at 1 of 2 densities and Wanda at 0 of 1 densities"
    )


def test_a_network_as_files():
    pytest.importorskip("onnxruntime")
    record = records.run_one(smallest.run, TINY)
    table = files.deployed(record, 0.99, rounds=3, batch=10)
    assert list(table["accuracy (%)"]) == [99.0] + 3 * [100 * record["test_accuracy"]]
    assert list(table.index) == [
        "dense, torch",
        "compact, torch",
        "compact, ONNX",
        "compact, NumPy",
    ]
    assert table.loc["compact, NumPy", "bytes"] < table.loc["dense, torch", "bytes"]
    assert (table.to_numpy(float) > 0).all()
    assert np.isfinite(table.to_numpy(float)).all()


def test_a_budget_is_kept_and_the_runs_without_one_are_told_apart():
    record = records.run_one(smallest.run, changed(TINY, density=0.3, at_most=100))
    assert record["kept"] == 100
    assert all(
        config.settings.at_most == round(config.density * comparison.LENET_WEIGHTS)
        for config in smallest.configs("paper")
    )
    assert (
        smallest.budgeted(comparison.PAPER_WEIGHTS).settings.alpha == smallest.CHOSEN["alpha"]
    )
    without = flat(changed(smallest.BASE, **smallest.CHOSEN, study="frontier"))
    del without["at_most"]  # records from before there were budgets
    found = [without | {"density": density} for density in (0.00139, 0.001)]
    found += [flat(smallest.budgeted(404)), put(0, 0.9)]
    assert tables.open_ended(found) == found[:1]


def test_a_form_that_computes_something_else_is_not_shown(monkeypatch):
    pytest.importorskip("onnxruntime")
    record = records.run_one(smallest.run, TINY)
    right = export.NumpyNetwork.__call__
    monkeypatch.setattr(export.NumpyNetwork, "__call__", lambda self, x: right(self, x) + 0.01)
    with pytest.raises(AssertionError, match="compact, NumPy"):
        files.deployed(record, 0.99, rounds=3, batch=10)

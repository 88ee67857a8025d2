"""What the chapter on compression curves says of its records."""

import matplotlib.pyplot as plt
import pytest
from scipy import stats

from pruning.chapters.compression_curves import figures, tables
from pruning.chapters.compression_curves.rules import compared, how_often
from pruning.comparison import FEW
from pruning.evidence import records


def run(method, density, seed, accuracy, dataset="mnist", **more):
    return {
        "dataset": dataset,
        "method": method,
        "density": density,
        "seed": seed,
        "test_accuracy": accuracy + 0.001 * seed,
        "test_accuracy_before_finetune": accuracy - 0.01,
        "kept": 1000 * density,
        "effective": 900 * density,
        "dense_weights": 1000,
        "kept_by_layer": [600 * density, 300 * density, 100 * density],
        "penalty": "log",
        "target": "falling",
        "alpha": 1.0,
        "epochs": 60,
        "tau": 2.0,
        "lr": 0.01,
        "gate_lr": 0.1,
    } | more


SEEDS = range(3)
MNIST = [run("gates", d, s, a) for d, a in ((0.5, 0.98), (FEW, 0.95)) for s in SEEDS]
MNIST += [run("set", d, s, a) for d, a in ((0.5, 0.98), (FEW, 0.60)) for s in SEEDS]
MNIST += [run("dense", 0.5, s, 0.90) for s in SEEDS]
INCOME = [
    run(method, density, s, accuracy, "income")
    for method, density, accuracy in (
        ("gates", 0.01, 0.85),
        ("dense", 1.0, 0.84),
        ("random", 0.01, 0.76),
        ("random_paths", 0.01, 0.83),
        ("logistic_regression", 1.0, 0.82),
    )
    for s in SEEDS
]


def test_comparisons_are_counted_where_both_are_on_record():
    found = compared("gates", ["set", "dense"], records.table(MNIST))
    assert len(found) == 3
    assert set(found[found.clear].other) == {"set", "dense"}
    assert how_often(found, "than") == (
        "than a dense network at 1 of 1 densities and than SET at 1 of 2 densities"
    )


def test_answers_quote_the_records():
    said = tables.answers(MNIST + INCOME, [run("gates", 0.0015, s, 0.96) for s in SEEDS])
    assert "**96.10 [95.85, 96.35] %**" in said["G1"]  # 0.961 ± 4.303 · 0.001 / √3
    assert "95.10 [94.85, 95.35] % (*Figure 2*)" in said["G1"]
    assert "**2 of 3** comparisons" in said["G2"]
    assert "Equal density" not in said["G2"]  # all keep as many
    for number in ("**85.10 [", "84.10 [", "76.10 [", "83.10 [", "82.10 ["):
        assert number in said["G3"]


def test_an_answer_says_where_gates_keep_more_weights():
    kept = {"gates": 110, "set": 100, "deepr": 120, "dense": 80}
    runs = [run(m, 0.5, s, 0.9, kept=count) for m, count in kept.items() for s in SEEDS]
    said = tables.answers(runs + INCOME, runs)["G2"]
    assert (
        "So gates keep up to 10 % more weights than SET and up to 38 % more weights than"
        in said
    )


def test_tables_have_a_row_a_setting():
    gated = [r for r in MNIST if r["method"] == "gates"]
    table = tables.by_density(gated)
    assert list(table["asked for"]) == ["50 %", "0.144 %"]
    assert list(table["fine-tuned (%)"]) == ["98.10 ± 0.10", "95.10 ± 0.10"]
    assert list(table["mask only (%)"]) == pytest.approx([97, 94])
    printed = [run("gates", FEW, 0, 0.97, penalty="absolute", alpha=1000.0, epochs=120)]
    forms = tables.forms(gated[3:] + printed)
    assert list(forms["density loss"]) == ["as printed", "logarithmic"]
    assert list(forms["seeds"]) == [1, 3]
    longer = tables.far_end(gated[3:] + printed)
    assert list(longer.epochs) == [60, 120]
    assert list(longer.rates) == ["0.01, 0.1"] * 2


def test_the_two_forms_are_compared_over_all_seeds():
    few = [r for r in MNIST if r["method"] == "gates"][3:]  # 95.10 ± 0.10
    long = run("gates", FEW, 0, 0.5, penalty="absolute", epochs=few[0]["epochs"] + 60)
    printed = [
        run("gates", FEW, s, a, penalty="absolute", epochs=few[0]["epochs"])
        for s, a in enumerate((0.951, 0.955, 0.956, 0.953))
    ]
    ours, theirs = ([r["test_accuracy"] for r in part] for part in (printed, few))
    ends = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    said = tables.forms_say(few, [*printed, long, *few])
    assert f"{25 * sum(ours):.2f} % (4 seeds) and the logarithmic form 95.10 % (3)" in said
    difference = f"{25 * sum(ours) - 95.1:+.2f} [{100 * ends.low:.2f}, {100 * ends.high:.2f}]"
    assert said.endswith(f"{difference} points.".replace("-", "−"))


def test_shares_of_the_layers_sum_to_one():
    _, ax = plt.subplots()
    figures.density_by_layer([r for r in MNIST if r["method"] == "gates"], ax)
    heights = [line.get_ydata() for line in ax.get_lines()]
    assert sum(heights) == pytest.approx([100, 100])
    assert ax.xaxis_inverted()
    plt.close("all")

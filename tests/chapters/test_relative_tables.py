"""What the chapter on relative importance says and draws of its records."""

import itertools

import matplotlib.pyplot as plt
import pytest

from pruning.chapters.relative_importance import figures, rules, tables, words
from pruning.pages import scoreboard

CLAIMS = scoreboard.of("relative_importance")


def run(seed, accuracy, method="relative", **more):
    base = {
        "dataset": "mnist",
        "hidden": [300, 100],
        "epochs": 20,
        "scaling": "raw",
        "study": "table",
        "method": method,
        "scope": "global",
        "activation": "relu",
        "activity": 0.1,
        "sparsity": 0.75,
        "finetune_epochs": 0,
        "seed": seed,
        "kept": 66_550,
        "test_accuracy": accuracy + 0.001 * (seed - 1),
        "unpruned_accuracy": 0.98,
    }
    if method == "relative":
        base |= {"kind": "absolute", "blind": True, "alpha": 1.0, "beta": 1.0, "decay": 1.0}
        base |= {"form": "sum"}
    return base | more


SEEDS = range(3)
FOUND = [
    *(run(s, 0.979) for s in SEEDS),
    *(run(s, 0.975, kind="relative") for s in SEEDS),
    *(run(s, 0.974, activity=0.0) for s in SEEDS),
    *(run(s, 0.985, "wanda", scope="layer") for s in SEEDS),
    *(run(s, 0.960, "wanda") for s in SEEDS),
    *(run(s, 0.970, "wanda", activity=0.0) for s in SEEDS),
    *(run(s, 0.982, "unpruned", sparsity=0.0) for s in SEEDS),
]


def test_answers_quote_the_runs_that_the_rules_look_at():
    said = tables.answers(CLAIMS, FOUND)
    assert "**97.90 [97.65, 98.15] %**" in said["R1"]  # 0.979 ± 4.303 · 0.001 / √3
    assert (
        "test images correctly after pruning-aware training, under the reading" in said["R1"]
    )
    assert (
        "After plain training the same reading reaches 97.40 [97.15, 97.65] %." in said["R1"]
    )
    assert "97.50 [97.25, 97.75] %. Of 3 combinations" in said["R1"]
    assert (
        "training, 1 have a mean that reaches the paper's number. For 1 of these"
        in (said["R1"])
    )
    assert "**1 of 2** cases and clearly behind in 1" in said["R2"]
    assert "from −0.60 to +0.40 points" in said["R2"]
    assert "**1 of 1** cases (ReLU, 75 % removed) and clearly less" in said["R3"]
    assert "less accurate in 0. The mean changes reach from +0.50" in said["R3"]


def test_who_changes_biases_too_is_told_from_masks_alone():
    assert "biases" not in tables.answers(CLAIMS, FOUND)["R2"]
    level = [run(s, 0.979, "wanda") for s in SEEDS]
    better = [run(s, 0.985, "stade corrected") for s in SEEDS]
    ours = [run(s, 0.979) for s in SEEDS]
    rest = [r for r in FOUND if r.get("kind") == "relative" or r["activity"] == 0]
    said = tables.answers(CLAIMS, [*rest, *ours, *level, *better])["R2"]
    assert "clearly behind in 1 (" in said
    assert "(STADE, bias corrected) changes biases too" in said
    assert "Without it the method is clearly ahead in 1 and clearly behind in 0." in said


def test_means_above_the_paper_are_told_from_those_clearly_above_it():
    """Three combinations, accuracies ± 0.001. Of 0.9792 the interval starts at 0.9767, above
    0.9763; its p-value, that of t = 0.0029 √3 / 0.001 = 5.02 with 2 degrees of freedom, is
    0.019, and 0.057 times three. Of 0.9765 it includes the value."""
    claim = CLAIMS["R1"]
    normalised = [run(s, 0.9, kind="relative") for s in SEEDS]
    weak = [run(s, 0.9765, scope="layer") for s in SEEDS]

    def of(accuracy):
        runs = [*normalised, *weak, *(run(s, accuracy) for s in SEEDS)]
        return tables.runs_of(claim, runs)

    found = rules.reaching(claim, of(0.9792))
    assert found["mean"].tolist() == pytest.approx([0.9792, 0.9765])
    assert found.alone.tolist() == [True, False]
    assert found.clear.tolist() == [False, False]
    said = rules.counted(claim, of(0.9792))
    assert "Of 3 combinations of reading, threshold and training, 2 have" in said
    assert "For 1 of these the 95 % interval lies above it." in said
    assert said.endswith("none is clearly above it")
    assert rules.counted(claim, of(0.99)).endswith("1 is clearly above it")
    assert tables.reaching(claim, of(0.9792)) == (
        "These means reach 97.63 %: 97.92 [97.67, 98.17] % (absolute, the whole network,"
        " λ = 0.1) and 97.65 [97.40, 97.90] % (absolute, each layer, λ = 0.1)."
    )
    none = tables.runs_of(claim, normalised)
    assert tables.reaching(claim, none) == "No mean reaches 97.63 %."


def test_means_at_the_papers_number_reach_it_and_are_not_above_it():
    claim = CLAIMS["R1"] | {"value": 0.75}
    at = [run(s, 0, test_accuracy=0.75) for s in SEEDS]
    two = [run(s, 0.9, scope="layer") for s in range(2)]
    found = rules.reaching(claim, tables.runs_of(claim, [*at, *two]))
    assert found["mean"].tolist() == pytest.approx([0.9 - 0.0005, 0.75])
    assert found.alone.tolist() == found.clear.tolist() == [False, False]
    three = [run(s, 0.9, scope="layer") for s in SEEDS]
    both = [*three, *(run(s, 0.8, kind="relative") for s in SEEDS)]
    said = rules.counted(claim, tables.runs_of(claim, [*at, *both]))
    assert "3 have a mean that reaches the paper's number. For 2 of these" in said
    assert said.endswith("2 are clearly above it")


def test_who_is_ahead_of_relative_importance_is_read_from_the_means():
    runs = [
        run(s, accuracy, method, sparsity=sparsity, finetune_epochs=1)
        for s in SEEDS
        for method, sparsity, accuracy in (
            ("relative", 0.75, 0.97),
            ("wanda", 0.75, 0.98),
            ("magnitude", 0.75, 0.96),
            ("stade", 0.75, 0.99),
            ("stade corrected", 0.75, 0.995),  # is not drawn
            ("relative", 0.9, 0.9),
            ("wanda", 0.9, 0.8),
        )
    ]
    assert tables.behind(runs, (0.75, 0.9)) == (
        "At λ = 0.1, after fine-tuning, these scores have a higher mean than relative"
        " importance: STADE and Wanda with 75 % removed; none with 90 % removed."
    )
    runs = [r | {"test_accuracy": 0.972} if r["method"] == "stade" else r for r in runs]
    said = tables.beside([r for r in runs if r["method"] != "stade corrected"])
    assert said.startswith("With 75 % removed relative importance has 97.00 [96.75, 97.25] %.")
    # seed by seed: every run moves by 0.1 a seed, except STADE's
    assert "−1.00 (Wanda), −0.20 [−0.45, 0.05] (STADE) and 1.00 (magnitude) points" in said


def test_a_control_that_is_not_on_record_is_said():
    said = tables.answers(CLAIMS, FOUND)["R4"]
    assert "**−0.30 points** above the unpruned network" in said
    assert "(ReLU, λ = 0.1, 75 % removed, not fine-tuned)" in said
    assert "In 1 further cases the unpruned network was not fine-tuned alike" in said
    control = [run(s, 0.970, "unpruned", sparsity=0.0, activity=0.0) for s in SEEDS]
    whole = tables.answers(CLAIMS, FOUND + control)["R4"]
    assert "**0.40 points** above" in whole
    assert "clearly above it in 1 of 2 cases" in whole
    assert "further" not in whole
    without = [r for r in FOUND if r["method"] != "unpruned"]
    none = tables.answers(CLAIMS, [*without, run(0, 0.9, "unpruned", activation="tanh")])["R4"]
    assert none.startswith("The paper reports up to 1.13 points. In 2 further cases")


def test_leads_are_over_the_best_threshold_and_paired_by_seed():
    runs = tables.runs_of(CLAIMS["R2"], FOUND)
    found = rules.leads(CLAIMS["R2"], runs)
    assert found["relu", 0.1, 0.75].tolist() == pytest.approx([-0.006] * 3)
    _, ax = plt.subplots()
    figures.leads(CLAIMS["R2"], runs, ax)
    rows = [text.get_text() for text in ax.get_yticklabels()]
    assert rows == ["ReLU, λ = 0", "75 % removed", "ReLU, λ = 0.1", "75 % removed"]
    means = [line for line in ax.get_lines() if len(line.get_xdata()) == 1]
    filled = [line.get_markerfacecolor() for line in means]
    assert filled == [figures.OURS, figures.PAPER_COLOUR]
    plt.close("all")


def test_readings_are_drawn_where_their_means_are():
    ours = [
        r | {"scope": scope}
        for r in FOUND
        if r["method"] == "relative"
        for scope in words.SCOPES
    ]
    _, ax = plt.subplots()
    aware = [r for r in ours if r["activity"] == 0.1]
    figures.readings(aware, ax, value=0.9763, accuracy_range=(97.6, 98.4))
    means = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert means == pytest.approx([97.9] * 3 + [97.5] * 3)  # those out of the range too
    assert [text.get_text() for text in ax.get_yticklabels()] == ["absolute", "normalised"]
    plt.close("all")


def test_curves_carry_names_and_leave_out_what_lies_under_others():
    sparse = [
        run(s, 0.98 - f / 10, method, sparsity=f)
        for s, f, method in itertools.product(
            SEEDS, (0.5, 0.75), ("relative", "magnitude", "magnitude live")
        )
    ]
    _, ax = plt.subplots()
    unpruned = [run(s, 0.98, "unpruned", sparsity=0.0) for s in SEEDS]
    figures.sparsity_curves(sparse + unpruned, ax, accuracy_range=(80, 99))
    names = {text.get_text() for text in ax.texts}
    assert names == {"relative importance", "magnitude", "unpruned"}
    plt.close("all")


def test_tables_say_in_words_what_records_call_otherwise():
    table = tables.means(FOUND, ["activation", "sparsity"])
    assert table.loc["Wanda", ("ReLU", "75 % removed")].startswith("97.1")
    assert table.loc["unpruned", ("ReLU", "75 % removed")] == "–"
    assert words.kinds(["activation", "activity", "sparsity"]) == (
        "an activation, a training and a sparsity"
    )
    assert words.case(["finetune_epochs"], 1) == "fine-tuned"
    near = [r | {"overlap_wanda": 0.9} for r in FOUND if r["method"] == "relative"]
    assert tables.overlap(near).loc[
        ("relative importance: normalised", "the whole network"), "75%"
    ] == pytest.approx(90)


def test_layers_of_a_network_have_a_row_each():
    record = {
        "activation": "tanh",
        "kind": "absolute",
        "ks_single": [0.5, 0.3],
        "ks_means": [0.1, 0.05],
        "zero_share": [0.8, 0.0],
    }
    table = tables.normality([record])
    assert table.to_numpy().tolist() == [
        ["tanh", "absolute", 1, 0.5, 0.1, 0.8],
        ["tanh", "absolute", 2, 0.3, 0.05, 0.0],
    ]
    blind = run(0, 0.98, "unpruned", blind_fraction=[0.5, 0.25], always_blind=[0.1, 0.0])
    table = tables.blindness([blind])
    assert list(table["blind (%)"]) == [50, 25]


def test_a_difference_has_its_sign_and_zero_has_none():
    said = [tables.signed(points, 1) for points in (-0.41, 0.41, -0.04, 0.04, 0.0)]
    assert said == ["−0.4", "+0.4", "0.0", "0.0", "0.0"]

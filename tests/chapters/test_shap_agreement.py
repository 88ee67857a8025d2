"""What the chapter on SHAP shows of its records."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from pruning.chapters.shap_agreement import figures, tables
from pruning.chapters.shap_agreement.rules import over_paths
from pruning.evidence import records

CLAIMS = {"G4": {"density": 0.01}, "G5": {"side": 14}, "G9": {"factor": 2000}}


def _run(seed, density, eq4, shap, rank=0.5, slower=10_000):
    return {
        "method": "gates" if density < 1 else "dense",
        "dataset": "income",
        "density": density,
        "seed": seed,
        "kept": 1000 * density,
        "dense_weights": 1000,
        "explained": 30,
        "features": ["a", "b", "c"],
        "importance": {"eq4": eq4, "shap": shap},
        "spearman_shap": {"value": rank, "low": 0.0, "high": 1.0},
        "pearson_shap": {"value": rank, "low": 0.0, "high": 1.0},
        "method_seconds": {"eq4": 1.0, "shap": float(slower), "permutation": 80.0},
    }


@pytest.fixture
def runs():
    equal, other = [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]
    sparse = [_run(seed, 0.01, equal, other, 0.9) for seed in range(3)]
    return [*sparse, *(_run(seed, 1.0, equal, equal, 1.0, 20_000) for seed in range(3))]


def test_the_answer_says_what_the_records_do(runs):
    images = [{"seed": seed, "central": {"14": [0.5, 0.6]}} for seed in range(3)]
    said = tables.answer(runs, images, CLAIMS)
    # against the diagonal: residuals 0.3, 0, 0.3 over deviations from 1/3 of Eq. 4's shares
    below = 1 - (2 * 0.3**2) / sum((value - 1 / 3) ** 2 for value in (0.5, 0.3, 0.2))
    assert (
        f"R² = **{below:.2f}** over the features that either method uses, against 1.00 with"
        " all weights."
    ).replace("-", "−") in said["G4"]
    assert f"Over all features it is {below:.2f}.".replace("-", "−") in said["G4"]
    assert "over all features, which is 0.90. Over the features" in said["G4"]
    assert "with a path it is **-1.00**".replace("-", "−") in said["G4"]  # the reverse order
    assert "(above 0 with p = 1 in a one-sided t-test" in said["G4"]
    assert "clearly lower than the 1.00 of networks with all weights" in said["G4"]
    assert "0 of the 3 features have no path" in said["G4"]
    assert "in 0 of 3 networks (3 of 3 with all weights)" in said["G4"]
    assert (
        "**15,000 times** as long in the median (10,000 to 20,000) for 30 samples"
        in said["G9"]
    )
    assert "it is 500 times as long for each" in said["G9"]
    assert "takes 80 times as long" in said["G9"]
    assert "so the factor of 2,000 that the verdict requires" in said["G9"]
    assert "hold **50 %** of the importance, and they are 25 % of the area" in said["G5"]
    assert "60 % of the pixels' variance" in said["G5"]


def test_features_without_a_path_are_counted_and_left_out_of_the_order(runs):
    """Of five features two or three have no path; the order of the others is that of SHAP in
    one network, and the reverse in two."""
    shares = [
        ([0.5, 0.3, 0.2, 0.0, 0.0], [0.6, 0.3, 0.1, 0.0, 0.0]),
        ([0.5, 0.3, 0.2, 0.0, 0.0], [0.1, 0.3, 0.6, 0.0, 0.0]),
        ([0.6, 0.4, 0.0, 0.0, 0.0], [0.4, 0.6, 0.0, 0.0, 0.0]),  # two say nothing
        ([0.2, 0.3, 0.5, 0.0, 0.0], [0.5, 0.3, 0.2, 0.0, 0.0]),
    ]
    sparse = [_run(seed, 0.01, *pair, 0.9) for seed, pair in enumerate(shares)]
    for run in sparse:
        run["features"] = list("abcde")
    table = records.table(sparse)
    assert over_paths(table).tolist() == pytest.approx([1, -1, np.nan, -1], nan_ok=True)
    full = [_run(seed, 1.0, [0.5, 0.3, 0.2], [0.3, 0.5, 0.2], 1.0) for seed in range(3)]
    images = [{"seed": seed, "central": {"14": [0.5, 0.6]}} for seed in range(3)]
    said = tables.answer([*sparse, *full], images, CLAIMS)["G4"]
    assert "2 to 3 of the 5 features have no path" in said
    # Spearman's of the full ones is 1/2: two neighbours are swapped
    assert "not clearly apart from the 0.50 of networks with all weights" in said
    assert "in 1 of 4 networks (0 of 3 with all weights)" in said


def test_maps_are_shares(runs):
    networks = [{"importance": [0.0, 1.0, 1.0]}, {"importance": [2.0, 0.0, 0.0]}]
    maps = tables.maps(networks, {"deviation": [1.0, 2.0, 0.0]})
    assert list(maps) == ["One network", "Mean of 2", "Pixels' variance"]
    assert maps["One network"] == [0, 0.5, 0.5]
    assert maps["Mean of 2"] == pytest.approx([0.5, 0.25, 0.25])
    assert maps["Pixels' variance"] == pytest.approx([0.2, 0.8, 0])


def test_figures_draw_every_network(runs):
    fig, axes = plt.subplots(1, 3)
    *dots, mean = figures.agreement(runs[:3], axes[0]).lines[1:]
    assert sum(len(line.get_xdata()) for line in dots) == 9
    assert np.allclose(mean.get_xydata(), [[20, 50], [30, 30], [50, 20]])
    named = figures.by_feature(runs[:3], axes[1]).get_yticklabels()
    assert [label.get_text() for label in named] == ["c", "b", "a"]  # by SHAP's share
    lines = figures.agreement_by_density(runs, axes[2]).lines
    assert np.allclose(lines[0].get_xydata(), [[1, 0.9], [100, 1.0]])
    assert np.allclose(lines[1].get_xydata(), [[1, -1.0], [100, 1.0]])  # over paths
    plt.close(fig)


def test_the_square_lies_in_the_middle():
    fig, ax = plt.subplots()
    square = figures.central_square((28, 28), 14, ax).patches[0]
    assert square.get_xy() == (6.5, 6.5)  # pixels 7 to 20, drawn half a pixel around
    assert square.get_width() == square.get_height() == 14
    plt.close(fig)

"""What the chapter on pixels shows of its records."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest

from pruning.chapters.pixel_representatives import figures, tables

CLAIMS = {
    "G7": {"few": 0.1, "many": 0.5},
    "G8": {"label": "2", "density": 0.1, "value": 0.74},
}


def _rule(label, precision):
    own = {"label": label, "precision": precision, "recall": 0.1, "accuracy": 0.8}
    best = {"precision": 0.5, "recall": 0.5, "accuracy": 0.9}
    counts = {"inside": [10, 0, 0, 0], "outside": [60, 10, 10, 10]}
    return own | counts | {"best": best, "best_read": best | {"precision": 0.3}}


def _run(seed, density, ratio):
    pixels = np.zeros(16)
    pixels[: 4 if density < 0.5 else 16] = 1
    return {
        "method": "gates",
        "study": "representatives",
        "density": density,
        "seed": seed,
        "top": 2,
        "shape": [4, 4],
        "importance": (pixels / pixels.sum()).tolist(),
        "neighbour_ratio": ratio,
        "rules": [_rule("1", 0.6), _rule("2", 0.1 * (seed + 1))],
    }


@pytest.fixture
def evidence():
    images = {
        "method": "none",
        "study": "pixels",
        "density": None,
        "seed": 0,
        "varying": [1] * 16,
        "pairs": [
            {"on": 0.0, "reaching": 3, "pairs": 120},
            {"on": 0.5, "reaching": 7, "pairs": 120},
        ],
    }
    picked = {"once": 3, "median": 2.0, "finding": {"0.1": 2, "0.2": 1}}
    support = {
        "method": "none",
        "study": "support",
        "density": None,
        "seed": 0,
        "support": [picked | {"on": on, "reaching": k} for on, k in ((0.0, 3), (0.5, 7))],
    }
    return [
        images,
        support,
        *(_run(s, d, 1 - 0.5 * (d < 0.5)) for s in range(3) for d in (0.1, 0.5)),
    ]


def test_the_answer_says_what_the_records_do(evidence):
    said = tables.answer(evidence, CLAIMS)
    assert "**0.50** of those pixels' importance" in said["G7"]
    assert "and 1.00 with 4 %" in said["G7"]
    assert "(3 seeds" in said["G7"]
    assert "a “2” in **20 [0, 45] %** of the cases, and not in 74 %" in said["G8"]
    assert "Of all images 10 % are that digit" in said["G8"]  # 10 of 100
    assert (
        "On the training images 7 of 120 pairs are as precise as the paper says: half"
        in (said["G8"])
    )
    assert (
        "at most 2 images, and 3 pick a single one. Of the digit's images 2 find at least 10 %"
        " and 1 finds at least 20 %. The most precise of the networks' own pairs has a"
        " precision of 30 %." in said["G8"]
    )
    without = tables.answer([r for r in evidence if r["study"] != "support"], CLAIMS)["G8"]
    assert "as precise as the paper says. The most precise" in without
    assert "always answering “no” has 90 %" in said["G8"]


def test_every_network_and_the_paper_are_drawn(evidence):
    fig, (first, second) = plt.subplots(1, 2)
    figures.precisions(evidence[2::2], first, 0.74)
    drawn = {line.get_label(): line for line in first.lines}
    assert drawn["the paper, digit 2"].get_xydata().tolist() == [[74, 1]]
    assert drawn["chance"].get_xdata() == [50, 50]  # of two digits
    own = [line for line in first.lines if line.get_marker() == "o"]
    assert np.allclose(own[2].get_xdata(), [10, 20, 30])
    assert np.allclose(own[3].get_xdata(), [20])
    ratios = pandas.DataFrame({key: [0.1, 0.3] for key in figures.RATIOS})
    figures.neighbour_ratios(ratios, second)
    assert [text.get_text() for text in second.texts] == ["0.20"] * len(figures.RATIOS)
    figures.mark_pixels([5, 10], (4, 4), second)
    assert second.lines[-1].get_xydata().tolist() == [[2, 2]]
    plt.close(fig)

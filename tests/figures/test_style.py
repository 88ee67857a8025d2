"""Labels at the ends of lines: none lies on another, none is moved further than need be."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import minimize

from pruning.figures import captions, style


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_moved_no_further_than_need_be(seed):
    heights, gap = np.random.default_rng(seed).uniform(0, 0.5, 6), 0.12
    places = style.spread(heights, gap)
    order = np.argsort(heights)
    assert (np.diff(places[order]) >= gap - 1e-9).all()
    apart = {"type": "ineq", "fun": lambda p: np.diff(p[order]) - gap}
    start = np.empty(6)
    start[order] = np.linspace(0, 1, 6)
    best = minimize(
        lambda p: ((p - heights) ** 2).sum(), start, bounds=[(0, 1)] * 6, constraints=apart
    )
    assert places == pytest.approx(best.x, abs=1e-3)


def test_labels_apart_stay_where_the_lines_end():
    heights = np.array([0.9, 0.1, 0.5])
    assert style.spread(heights, 0.2) == pytest.approx(heights)


@pytest.mark.parametrize("inverted", [False, True])
def test_every_line_carries_its_name_and_no_name_lies_on_another(inverted):
    style.use_style()
    fig, ax = plt.subplots(figsize=(6.4, 5))
    for k in range(8):
        ax.plot([1, 10, 100], [90 + k, 90 + 0.1 * k, 90 + k], label=f"line {k}")
    ax.set_xscale("log")
    if inverted:
        ax.invert_xaxis()
    style.error_scale(ax, 80, 99)
    ax.set_ylim(80, 99)
    style.label_ends(ax)
    fig.canvas.draw()
    assert [text.get_text() for text in ax.texts] == [f"line {k}" for k in range(8)]
    right = ax.transAxes.inverted().transform(
        ax.transData.transform((1 if inverted else 100, 90))
    )
    assert [text.xy[0] for text in ax.texts] == pytest.approx([right[0]] * 8)
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x0 > ax.get_window_extent().x1 for box in boxes)
    assert all(box.x1 <= fig.bbox.x1 for box in boxes)
    plt.close(fig)


def test_a_figure_s_number_comes_first():
    assert captions.numbered(2, "See.", "*small*") == "**Figure 2.** See. *small*"

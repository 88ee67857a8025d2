"""Labels at the ends of lines: none lies on another, none is moved further than need be."""

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import minimize

from pruning.data import datasets
from pruning.figures import captions, style

ROOT = Path(__file__).resolve().parents[2]


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


def test_every_caption_names_its_scale_in_the_same_words():
    assert captions.origin("paper", "MNIST", "", "x") == "*Paper scale · MNIST · x*"
    assert captions.origin("quick").startswith("*Quick run")
    with pytest.raises(KeyError):
        captions.origin("papers")
    for path in [*ROOT.glob("pruning/chapters/*/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        typed = re.findall(
            r"Paper scale[:,]|(?:paper|quick|\}) profile [·:]", path.read_text()
        )
        assert not typed, path


def test_every_data_set_has_a_name_for_captions():
    assert set(datasets.READERS) <= captions.DATA.keys()


def test_questions_without_records_follow_together():
    said = captions.answered({"Is it?": "It is.", "Why?": "", "When?": ""}, "pruning sweep x")
    assert said[0] == "**Is it?** It is."
    assert said[1].startswith("These questions are not measured yet: *Why? When?*")
    assert "`pruning sweep x`" in said[1]
    assert len(said) == 2
    assert captions.answered({"Is it?": "It is."}, "pruning sweep x") == said[:1]


def shown(monkeypatch, fig):
    """The texts that `captions.show` displays, and whether it shows the figure."""
    texts, figures = [], []
    monkeypatch.setattr(captions, "display", lambda text: texts.append(text.data))
    monkeypatch.setattr(plt, "show", lambda: figures.append(fig))
    captions.show(fig, 3, "See.", "*small*")
    return texts, bool(figures)


def test_panels_without_records_are_left_out_and_named(monkeypatch):
    fig, axes = plt.subplots(3, 1, figsize=(6, 9))
    found = {"a": [], "b": [1, 2], "c": []}
    for ax, name, part in style.panels(axes, found, "pruning sweep x"):
        ax.plot(part)
        ax.set_title(name)
    assert [ax.get_lines()[0].get_ydata().tolist() for ax in fig.axes] == [[1, 2]]
    assert fig.get_size_inches().tolist() == [6, 3]
    fig.canvas.draw()
    assert fig.axes[0].get_position().height > 0.7  # it has the figure to itself
    texts, drawn = shown(monkeypatch, fig)
    assert drawn
    assert texts == [
        "**Figure 3.** See. *small*. Not measured yet: a; c. `pruning sweep x` measures them."
    ]
    plt.close(fig)


def test_in_place_of_an_empty_figure_stands_a_sentence(monkeypatch):
    fig, axes = plt.subplots(2, 1)
    for ax in axes:
        style.not_measured(ax, "pruning sweep x")
    texts, drawn = shown(monkeypatch, fig)
    assert not drawn
    assert texts == ["**Figure 3** is not measured yet. `pruning sweep x` measures it."]
    assert not plt.fignum_exists(fig.number)
    whole, ax = plt.subplots()
    assert shown(monkeypatch, whole) == (["**Figure 3.** See. *small*"], True)
    plt.close(whole)

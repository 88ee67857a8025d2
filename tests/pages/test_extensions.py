"""What the book's own Sphinx extensions do to text, each on its own."""

import inspect
import re

import pandas
import pytest
from docutils.core import publish_doctree
from fontTools.ttLib import TTFont

import pruning
from pruning.evidence.statistics import VERDICTS
from pruning.figures import captions
from pruning.pages import headlines, links, reference, repository, tables


def table(rows):
    body = "<tr><td>1</td></tr>" * rows
    return f"<table><thead><tr><th>a</th></tr></thead><tbody>{body}</tbody></table>"


def test_only_a_table_of_more_than_twelve_rows_folds():
    assert tables.folded(table(12)) == table(12)
    assert tables.folded(table(13)).startswith(
        '<details class="fold"><summary>Show the table (13 rows)'
    )
    assert tables.folded("<p>no table</p>") == "<p>no table</p>"


def rows_of(html, part):
    return [
        [re.sub(r"<[^>]+>|&nbsp;|\s", " ", cell).split() for cell in cells]
        for cells in (
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            for row in re.findall(
                r"<tr.*?</tr>", html.partition(f"<{part}>")[2].partition(f"</{part}>")[0], re.S
            )
        )
    ]


@pytest.mark.parametrize("styled", [True, False])
def test_names_of_the_index_stand_beside_those_of_the_columns(styled):
    index = pandas.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["net", "rate"])
    table = pandas.DataFrame({"x": [1, 2], "y": [3, 4]}, index=index)
    html = tables.tidy(table.style.to_html() if styled else table.to_html())
    assert rows_of(html, "thead") == [[["net"], ["rate"], ["x"], ["y"]]]
    assert rows_of(html, "tbody")[0] == [["a"], ["1"], ["1"], ["3"]]
    plain = table.reset_index(drop=True).to_html()
    assert rows_of(tables.tidy(plain), "thead") == rows_of(plain, "thead")
    columns = pandas.MultiIndex.from_product([["p"], ["x", "y"]])
    two = pandas.DataFrame([[1, 2]], index=["a"], columns=columns)
    two = two.style.to_html() if styled else two.to_html()
    assert rows_of(tables.tidy(two), "thead") == rows_of(two, "thead")


def test_in_place_of_a_table_without_records_stands_a_sentence():
    assert captions.PENDING.iloc[0, 0] == tables.PENDING
    said = tables.tidy(captions.PENDING.to_html())
    assert "<table" not in said
    assert "<p>This table is not measured yet.</p>" in said


def test_an_interval_may_begin_a_line_but_does_not_break():
    html = "<table><tbody><tr><td>{}</td></tr></tbody></table>"
    for said, pieces in {
        "0.9 ± 0.1 [0.8, 1.0]": ["0.9 ± 0.1", "[0.8, 1.0]"],
        "−0.9 [−1.0, −0.8]": ["−0.9", "[−1.0, −0.8]"],
        "96.12 ± 0.16": ["96.12", "± 0.16"],
        "gates, 404 weights": [],
    }.items():
        found = tables.tidy(html.format(said))
        assert re.findall(r'<span class="piece">(.*?)</span>', found) == pieces
        assert " ".join(rows_text(found).split()) == said


def test_numbers_below_zero_have_a_minus_sign_and_zero_has_none():
    html = "<table><tbody><tr><td>{}</td></tr></tbody></table>"
    for said, shown in {
        "-0.03 ± 0.04": "−0.03 ± 0.04",
        "-0.001 [-0.07, -0.00]": "−0.001 [−0.07, 0.00]",
        "-0": "0",
        "ResNet-20": "ResNet-20",
        "2-3": "2-3",
    }.items():
        assert " ".join(rows_text(tables.tidy(html.format(said))).split()) == shown


def rows_text(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


def test_a_cell_carries_the_names_above_it_whatever_stands_at_the_left():
    columns = pandas.MultiIndex.from_product([["p", "q"], ["x", "y"]])
    index = pandas.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["net", "rate"])
    table = pandas.DataFrame([[1, 2, 3, 4], [5, 6, 7, 8]], index=index, columns=columns)
    for html in (table.style.to_html(), table.to_html(), table.style.hide().to_html()):
        found = re.findall(r'<td[^>]*data-label="([^"]*)"[^>]*>(\d)', tables.tidy(html))
        names = ["p, x", "p, y", "q, x", "q, y"]
        assert found == [(names[k % 4], str(k + 1)) for k in range(8)]


def test_long_names_may_break_and_keep_their_letters():
    html = "<table><thead><tr><th>{}</th></tr></thead><tbody></tbody></table>"
    for name, broken in {
        "StochGradAdam": "Stoch<wbr/>Grad<wbr/>Adam",
        "blocks.0.attention": "blocks.<wbr/>0.<wbr/>attention",
        "LeNet-300-100": "LeNet-300-100",
    }.items():
        assert f"<th>{broken}</th>" in tables.tidy(html.format(name))


def test_apostrophes_are_round_and_a_per_cent_sign_stays_with_its_number():
    said = tables.typeset("MNIST's 5 %, the pixels' variance [1, 2] %, 'a b' % c")
    assert said == (
        "MNIST’s 5\N{NO-BREAK SPACE}%, the pixels’ variance [1, 2]\N{NO-BREAK SPACE}%,"
        " 'a b' % c"
    )


def test_the_words_of_a_command_stay_whole():
    said = tables.typeset("<p><code>pruning sweep</code> and <code>x</code></p>")
    assert said == (
        '<p><code><span class="pre">pruning</span> <span class="pre">sweep</span></code> and'
        ' <code><span class="pre">x</span></code></p>'
    )


def test_without_an_address_there_are_no_buttons():
    assert repository.links("", "main", "chapters/smallest", "How small?") == {}


def test_buttons_lead_to_the_source_of_a_page():
    found = repository.links(
        "https://github.com/a/b/", "main", "chapters/smallest", "How small?"
    )
    assert (
        found["Edit this page"] == "https://github.com/a/b/edit/main/notebooks/smallest.ipynb"
    )
    assert found["Open in Colab"].endswith("/github/a/b/blob/main/notebooks/smallest.ipynb")
    assert found["Open in Binder"].startswith("https://mybinder.org/v2/gh/a/b/main?")
    assert found["Report a problem"].endswith("title=On%20the%20page%20How%20small%3F")
    page = repository.links("https://git.example.org/b", "main", "intro", "Home")
    assert page["Edit this page"].endswith("/edit/main/book/intro.md")
    assert not any(text.startswith("Open in") for text in page)


def test_terms_are_found_as_words():
    words = links.pattern(["mask", "SET", "effective weight"])
    assert [
        m[0]
        for m in words.finditer("Masks unmask a mask; set, SET, Effective weights, masked")
    ] == [
        "Masks",
        "mask",
        "SET",
        "Effective weights",
    ]


@pytest.mark.parametrize("name", pruning.__all__)
def test_docstrings_become_markup_without_a_complaint(name):
    from sphinx.ext.napoleon import Config, NumpyDocstring

    lines = reference.prepared(inspect.getdoc(getattr(pruning, name)).splitlines())
    text = str(NumpyDocstring(lines, Config(napoleon_use_rtype=False)))
    document = publish_doctree(text, settings_overrides={"report_level": 5})
    found = document.findall(
        lambda node: node.tagname == "system_message" and node["level"] >= 2
    )
    problems = [message.astext() for message in found]
    assert not [said for said in problems if "Unknown interpreted text role" not in said]


def test_a_headline_a_paper_with_one_number_in_bold():
    found = headlines.headlines()
    assert [said.paper for said in found] == [
        "Learnable gates",
        "Gradient sampling",
        "Relative importance",
    ]
    for said in found:
        assert len(re.findall(r"\*\*[\d.]+ %\*\*", said.sentence)) == 1
        assert said.verdict in VERDICTS


def test_the_font_has_what_formulas_stretch(html):
    font = TTFont(html / "_static" / "stix-two-math.woff")
    assert "MATH" in font
    assert {ord("("), 0x2211, 0x221A, 0x1D70F} <= set(font.getBestCmap())

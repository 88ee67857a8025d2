import pytest

from pruning.figures.captions import FOLD
from pruning.pages import answers, scoreboard


def _run(seed, **provenance):
    return {
        "method": "gates",
        "provenance": {
            "commit": "2f9897bb2f46d869158e68962bee2ba1cb3b561c",
            "seconds": 1800.0,
            "data": f"generated, seed {seed}",
            "device": "cpu",
            "threads": 1,
            "versions": {"torch": "2.15.0"},
            **provenance,
        },
    }


def test_provenance_counts_runs_and_names_each_origin_once():
    other = _run(1, commit="e572e987b6ce69f2fffd27ee4bf4d12eec9fed54", threads=2)
    table = answers.provenance([_run(0), _run(0), other]).data[""]
    assert table["runs on record"] == "3"
    assert table["hours of computing"] == "1.5"
    assert table["commit of the code"] == "2f9897bb2f46, e572e987b6ce"
    assert table["checksum of the data"] == "generated"
    assert table["threads"] == "1, 2"
    assert table["torch"] == "2.15.0"
    html = answers.provenance([other]).to_html()
    assert 'class="provenance"' in html
    hostile = _run(0, device="<script>", versions={"<img>": "1 & 2"})
    html = answers.provenance([hostile]).to_html()
    assert "&lt;script&gt;" in html
    assert "&lt;img&gt;" in html
    assert "1 &amp; 2" in html


@pytest.mark.parametrize("chapter", ["pathways", "shap_agreement"])
def test_the_box_shows_the_verdict_of_the_scoreboard(chapter):
    board = scoreboard.board(chapter).set_index("id")
    box = answers.box(chapter, dict.fromkeys(board.index, "**a < b** and *c*")).data
    for verdict in board.verdict:
        assert scoreboard.badge(verdict) in box
    assert box.count("<strong>a &lt; b</strong> and <em>c</em>") == len(board)


def test_the_box_refuses_a_claim_of_another_chapter():
    with pytest.raises(KeyError):
        answers.box("pathways", {"G1": "said"})


def test_an_answer_to_a_question_of_our_own_has_no_verdict():
    box = answers.plain("one **two**", "three").data
    assert "<p>one <strong>two</strong></p><p>three</p>" in box
    assert "<details" not in box
    assert "<span" not in box


def test_what_follows_a_fold_is_opened_by_the_reader():
    box = answers.plain(f"short.{FOLD}long **number**.", "three").data
    folded = "<summary>More numbers</summary><p>long <strong>number</strong>.</p></details>"
    assert f'<p>short.</p><details class="fold">{folded}<p>three</p></div>' in box

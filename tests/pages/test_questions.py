import re
from pathlib import Path

import pytest

from pruning import chapters

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (.+\?) \| (.+) \|$", re.MULTILINE)

# what the papers and their summaries leave open, a word of each question
OPEN = {
    "Learnable gates": (
        "temperature",
        "10 %",
        "Fashion-MNIST",
        "CIFAR-10",
        "other data sets",
        "deeper",
        "channels",
        "integrated gradients",
    ),
    "Gradient sampling": (
        "VGG",
        "DenseNet",
        "dense and recurrent",
        "sampling rate",
        "steps of 20 %",
        "computation",
        "explained",
        "ImageNet",
        "long term",
    ),
    "Relative importance": (
        "convolutional",
        "CIFAR-10",
        "transformers",
        "α, β and s",
        "β and s change at 50 %",
        "other architectures",
        "λ of the penalty is best at 25 %",
        "blind range of each activation",
        "through training",
        "mutual information",
    ),
    "All pruned networks": ("FGSM", "PGD", "hardware", "memory", "energy"),
}


@pytest.fixture(scope="module")
def tables():
    """The rows of every section of the page, as pairs of a question and its answer."""
    page = (ROOT / "book" / "questions.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return {
        name: ROW.findall(text)
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def test_every_open_question_of_the_papers_has_one_row(tables):
    assert set(tables) == set(OPEN)
    for section, words in OPEN.items():
        assert len(tables[section]) == len(words)
        for word in words:
            assert sum(word in question for question, _ in tables[section]) == 1, word


def test_an_answer_leads_to_a_chapter_of_the_book(tables):
    listed = set(re.findall(r"- file: (\S+)", (ROOT / "_toc.yml").read_text("utf-8")))
    for question, answer in (row for rows in tables.values() for row in rows):
        (target,) = re.findall(r"\]\((chapters/\w+)\.ipynb\)", answer)
        assert target in listed, question
        assert (ROOT / "notebooks" / Path(target).name).with_suffix(".ipynb").is_file()


def test_what_is_not_measured_has_a_command_that_fills_it(tables):
    rows = [row for section in tables.values() for row in section]
    missing = [row for row in rows if row[1].startswith("not measured yet")]
    for question, answer in missing:
        (chapter,) = re.findall(r"\]\(chapters/(\w+)\.ipynb\)", answer)
        assert f"`pruning sweep {chapter} --profile paper`" in answer, question
        assert chapters.part(chapter, "experiment").configs("paper")

"""The parts of README.md that depend on the records: its table, sentences and figures.

Chapters supply them: the table has a row a claim, and a chapter's readme.py may bring a
`sentence()` for under the table, a `figure(ax)`, drawn to book/_static/<chapter>.png, and a
`headline` with its `HEADLINE` for the first lines (`headlines` says how).
"""

import re
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt

from pruning import chapters
from pruning.evidence.statistics import (
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    SMALL_SCALE,
)
from pruning.figures import style
from pruning.pages import headlines, scoreboard

FIGURES = Path("book") / "_static"
BEGIN, END = "<!-- {}: written by `pruning readme` -->", "<!-- end of {} -->"
MARKS = {  # verdict → a mark that shows its colour where a README cannot
    REPRODUCED: "🟢",
    PARTLY: "🟡",
    NOT_REPRODUCED: "🔴",
    SMALL_SCALE: "🔵",
    NOT_MEASURED: "⚪",
}


def escaped(text: str) -> str:
    """A text as Markdown on one line that shows it as it is: no tag, emphasis, code, link or
    cell of a table comes from it."""
    text = re.sub(r"[\\`*_~$]|\](?=[\[(])", r"\\\g<0>", " ".join(text.split()))
    for character, entity in {
        "&": "&amp;",
        "<": "&lt;",
        "|": "&#124;",
        "://": "&#58;//",
    }.items():
        text = text.replace(character, entity)
    return text


def _line(sentence: str) -> str:
    """A chapter's own sentence: its Markdown stays, tags and further lines do not."""
    return " ".join(sentence.split()).replace("<", "&lt;")


def first_lines() -> str:
    """A line a paper: its verdict and its sentence."""
    return "\n".join(
        f"- {MARKS[said.verdict]} **{said.verdict}** "
        f"([{said.paper.lower()}](notebooks/{said.chapter}.ipynb)) {_line(said.sentence)}"
        for said in headlines.headlines()
    )


def _first(text: str) -> str:
    """The first sentence, without its full stop."""
    return re.split(r"\.(?= [A-Z]|$)", text)[0]


def evidence_table() -> str:
    """Markdown: notebook, paper figure, theirs, ours, verdict; one row a claim. Of ours the
    first sentence; the scoreboard has the rest."""
    board = scoreboard.board().set_index("id")
    rows = [
        "| notebook | paper figure | theirs | ours | verdict |",
        "|---|---|---|---|---|",
    ]
    for chapter, claim in scoreboard.all_claims():
        row = board.loc[claim["id"]]
        seeds = f" ({row.seeds} seeds)" if row.seeds else ""
        cells = (
            f"[{chapter}](notebooks/{chapter}.ipynb)",
            escaped(claim["figure"]),
            escaped(row.claim),
            escaped(_first(row.ours) + seeds) if row.ours else "not on record",
            f"**{row.verdict}**",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _bring(what: str) -> dict[str, ModuleType]:
    """{chapter: its readme.py} of the chapters whose readme.py defines `what`."""
    parts = {name: chapters.part(name, "readme") for name in chapters.names()}
    return {name: part for name, part in parts.items() if hasattr(part, what)}


def sentences() -> str:
    """What chapters say beside their claims."""
    return "\n".join(_line(part.sentence()) for part in _bring("sentence").values())


def with_evidence(text: str) -> str:
    """README text with its parts brought up to date. Raises ValueError for a part without its
    two markers."""
    for part, write in {"verdicts": first_lines, "evidence": _evidence}.items():
        begin, end = BEGIN.format(part), END.format(part)
        if begin not in text or end not in text:
            raise ValueError(
                f"README.md: needs the lines {begin!r} and {end!r} around its {part}"
            )
        text = f"{text.split(begin)[0]}{begin}\n{write()}\n{end}{text.split(end)[1]}"
    return text


def _evidence() -> str:
    return f"{evidence_table()}\n\n{sentences()}"


def draw(folder: Path) -> None:
    """The figures that chapters bring, each to <chapter>.png."""
    style.use_style()
    folder.mkdir(parents=True, exist_ok=True)
    for chapter, part in _bring("figure").items():
        fig, ax = plt.subplots(figsize=(7, 6))
        part.figure(ax)
        path = folder / f"{chapter}.png"
        temporary = path.with_suffix(".tmp.png")
        fig.savefig(temporary, dpi=120, metadata={"Software": None})
        temporary.replace(path)
        plt.close(fig)


def refresh(root: Path) -> None:
    """Rewrite README.md's table and figures from the records."""
    draw(root / FIGURES)
    readme = root / "README.md"
    text = with_evidence(readme.read_text(encoding="utf-8"))
    temporary = readme.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(readme)

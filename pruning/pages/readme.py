"""The parts of README.md that depend on the records: its table, sentences and figures.

Chapters supply them: the table has a row a claim, and a chapter's readme.py may bring a `sentence()`
for under the table and a `figure(ax)`, drawn to book/_static/<chapter>.png.
"""

from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt

from pruning import chapters
from pruning.figures import style
from pruning.pages import scoreboard

FIGURES = Path("book") / "_static"
BEGIN, END = "<!-- evidence: written by `pruning readme` -->", "<!-- end of evidence -->"


def evidence_table() -> str:
    """Markdown: notebook, paper figure, command, theirs, ours, verdict; one row a claim."""
    board = scoreboard.board().set_index("id")
    rows = ["| notebook | paper figure | command | theirs | ours | verdict |", "|---|---|---|---|---|---|"]
    for chapter, claim in scoreboard.all_claims():
        row = board.loc[claim["id"]]
        seeds = f" ({row.seeds} seeds)" if row.seeds else ""
        cells = (
            f"[{chapter}](notebooks/{chapter}.ipynb)",
            claim["figure"],
            f"`make book ONLY={chapter}`",
            row.claim,
            row.ours + seeds if row.ours else "not on record",
            f"**{row.verdict}**",
        )
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;').replace('<', '&lt;') for cell in cells)} |")
    return "\n".join(rows)


def _bring(what: str) -> dict[str, ModuleType]:
    """{chapter: its readme.py} of the chapters whose readme.py defines `what`."""
    parts = {name: chapters.part(name, "readme") for name in chapters.names()}
    return {name: part for name, part in parts.items() if hasattr(part, what)}


def sentences() -> str:
    """What chapters say beside their claims."""
    return "\n".join(part.sentence() for part in _bring("sentence").values())


def with_evidence(text: str) -> str:
    """README text with its table brought up to date. Raises ValueError without the two markers."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"README.md: needs the lines {BEGIN!r} and {END!r} around its table")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    return f"{head}{BEGIN}\n{evidence_table()}\n\n{sentences()}\n{END}{tail}"


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

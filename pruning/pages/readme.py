"""The parts of README.md that depend on the records: its table and its figure."""

from pathlib import Path

import matplotlib.pyplot as plt

from pruning.chapters.smallest import tables
from pruning.evidence import records
from pruning.evidence.statistics import percent
from pruning.figures import compression, style
from pruning.pages import scoreboard

FIGURE = Path("book") / "_static" / "compression_curves.png"
BEGIN, END = "<!-- evidence: written by `pruning readme` -->", "<!-- end of evidence -->"


def evidence_table() -> str:
    """Markdown: notebook, paper figure, command, theirs, ours, one row a claim that has a chapter."""
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
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def beyond() -> str:
    """A sentence on the smallest networks of MNIST, one number of weights after the other."""
    found = tables.listed(records.read(records.records_folder() / "smallest.jsonl"))
    said = [
        f"{most} weights {percent(group.test_accuracy)} ({group.seed.nunique()} seeds)"
        for most, group in sorted(records.table(found).groupby("at_most"), reverse=True)
    ]
    return (
        f"Beyond the papers, MNIST with a few [hundred weights](notebooks/smallest.ipynb): {', '.join(said)}."
    )


def with_evidence(text: str) -> str:
    """README text with its table brought up to date. Raises ValueError without the two markers."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"README.md: needs the lines {BEGIN!r} and {END!r} around its table")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    return f"{head}{BEGIN}\n{evidence_table()}\n\n{beyond()}\n{END}{tail}"


def draw(path: Path) -> None:
    """The MNIST curve of the compression chapter, for README's first screen."""
    style.use_style()
    found = records.select(
        records.read(records.records_folder() / "compression_curves.jsonl"), study="curves", dataset="mnist"
    )
    fig, ax = plt.subplots(figsize=(7, 6))
    compression.curves(found, ax)
    style.paper_point(ax, 404 / 266_200, 0.94, "paper: 404 weights, above 94 %")
    ax.set_title("MNIST, LeNet-300-100: what is left after pruning")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(temporary := path.with_suffix(".tmp.png"), dpi=120, metadata={"Software": None})
    temporary.replace(path)
    plt.close(fig)


def refresh(root: Path) -> None:
    """Rewrite README.md's table and figure from the records."""
    draw(root / FIGURE)
    readme = root / "README.md"
    text = with_evidence(readme.read_text(encoding="utf-8"))
    temporary = readme.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(readme)

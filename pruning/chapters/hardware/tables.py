"""What the chapter `hardware` shows of its records: tables and sentences."""

import pandas

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import joined
from pruning.figures.captions import FOLD, origin

REFERENCE = "dense, torch"
SAME_RUNTIME = "dense, ONNX Runtime"
MARGIN = 0.05  # smaller differences may be noise
TITLES = {"lenet": "LeNet-300-100", "cnn": "the CNN", "resnet20": "ResNet-20"}
PATTERNS = {"scattered": "single weights", "outputs": "neurons, channels", "gates": "gates"}


def frame(evidence: list[Record]) -> pandas.DataFrame:
    """One row a measured form: network, pattern, asked (density), seed, left (the share of the
    weights on paths), form, bytes, one and batch (seconds of processor time), thousand (of
    1,000 images), and the ratios of one and batch to the dense network in torch, measured in
    the same run."""
    rows = []
    for record in records.select(evidence, study="speed"):
        reference = record["forms"][REFERENCE]
        for form, found in record["forms"].items():
            rows.append(
                {
                    "network": record["network"],
                    "pattern": record["method"],
                    "asked": record["density"],
                    "seed": record["seed"],
                    "left": record["effective"] / record["dense_weights"],
                    "form": form,
                    "bytes": found["bytes"],
                    "one": found["one_cpu"],
                    "one_wall": found["one_wall"],
                    "batch": found["batch_cpu"],
                    "thousand": 1000 * found["batch_cpu"] / record["batch"],
                    "one_ratio": found["one_cpu"] / reference["one_cpu"],
                    "batch_ratio": found["batch_cpu"] / reference["batch_cpu"],
                }
            )
    return pandas.DataFrame(rows)


def pays(evidence: list[Record], network: str, than: str = REFERENCE) -> pandas.DataFrame:
    """One row a form, a column a pattern and measure: the largest measured density from which
    down the form is ahead of the dense network `than` by MARGIN or more in every seed, as the
    share of the weights that are left there; "–" where it never is."""
    rows = frame(records.select(evidence, network=network))
    rows = rows[rows.pattern != "gates"]
    table = {}
    for form in [f for f in rows.form.unique() if not f.startswith("dense")]:
        table[form] = {}
        for pattern in rows.pattern.unique():
            for column, title in (("one", "one image"), ("batch", "batch"), ("bytes", "file")):
                ahead = _ahead(rows[rows.pattern == pattern], form, column, than)
                key = (PATTERNS[pattern], title)
                table[form][key] = f"{float(f'{100 * ahead:.2g}'):g} %" if ahead else "–"
    return pandas.DataFrame.from_dict(table, orient="index")


def _ahead(rows: pandas.DataFrame, form: str, column: str, than: str) -> float | None:
    best = None
    for _, part in sorted(rows.groupby("asked")):
        ours, theirs = (
            part[part.form == name].set_index("seed")[column] for name in (form, than)
        )
        if not (ours <= (1 - MARGIN) * theirs).all():
            break
        best = part.left.median()
    return best


def costs(evidence: list[Record], network: str) -> pandas.DataFrame:
    """One row a form and pattern: kilobytes, microseconds for one image, and processor
    milliseconds for 1,000 images, at the least density of each pattern; medians over seeds."""
    rows = frame(records.select(evidence, network=network))
    rows = rows[rows.asked == rows.groupby("pattern").asked.transform("min")]
    grouped = rows.groupby(["pattern", "form"], sort=False)
    table = pandas.DataFrame(
        {
            "left (%)": 100 * grouped.left.median(),
            "file (kB)": grouped.bytes.median() / 1000,
            "one image (µs)": 1e6 * grouped.one.median(),
            "shortest, wall clock (µs)": 1e6 * grouped.one_wall.min(),
            "1,000 images (CPU ms)": 1000 * grouped.thousand.median(),
            "seeds": grouped.seed.nunique(),
        }
    ).reset_index()
    table["pattern"] = table.pattern.map(PATTERNS)
    return table.set_index(["pattern", "form"])


def memory(evidence: list[Record]) -> pandas.DataFrame:
    """One row a form, a column a network at its density: peak memory of a process in
    megabytes, the median over seeds."""
    rows = [
        {"network": f"{TITLES[r['network']]}, {100 * r['density']:g} %", "form": form}
        | {"peak": peak / 1e6}
        for r in records.select(evidence, study="memory")
        for form, peak in r["peak_bytes"].items()
    ]
    found = pandas.DataFrame(rows).groupby(["form", "network"], sort=False).peak
    table = found.median().unstack(sort=False)
    return table.rename_axis(index=None, columns=None)


def energy(evidence: list[Record]) -> str:
    """Whether the machine had a counter of energy, in a sentence."""
    if any(record["energy_counter"] for record in evidence):
        return "The machine has an energy counter, which was not read."
    return (
        "Energy is not measured, because the machine has no energy counter that we can read."
    )


def machine(evidence: list[Record]) -> str:
    """The processors that the records were measured on."""
    return ", ".join(dict.fromkeys(record["provenance"]["device"] for record in evidence))


def answer(evidence: list[Record]) -> list[str]:
    """The chapter's answer in sentences."""
    said = []
    for network in dict.fromkeys(record["network"] for record in evidence):
        rows = frame(records.select(evidence, network=network))
        table = pays(evidence, network, SAME_RUNTIME)
        form = "compact, ONNX Runtime"
        scattered, outputs = (
            table.loc[form, (PATTERNS[name], "batch")] for name in ("scattered", "outputs")
        )
        whole = rows[rows.pattern == "outputs"]
        least = whole[whole.asked == whole.asked.min()]
        ratio = least.groupby("form").batch_ratio.median()
        best = ratio.idxmin()
        times = least.pivot(index="seed", columns="form", values="batch")
        same = 100 * (times[best] / times[SAME_RUNTIME]).median()
        title = TITLES[network][0].upper() + TITLES[network][1:]
        said.append(
            f"**{title}.** In ONNX Runtime the compact network classifies a batch faster than"
            f" the dense one at {_from(outputs)} if whole neurons or channels are removed, and"
            f" at {_from(scattered)} if single weights are removed.{FOLD}With"
            f" {100 * least.left.median():.2g} % left in whole neurons or channels, the"
            f" fastest form ({best}) takes {100 * ratio[best]:.0f} % of the time of the dense"
            f" network in torch, and {same:.0f} % of its time in ONNX Runtime."
            f" {_files(table.loc[form])}"
        )
    masked = frame(evidence).query("form == 'masked, torch'")
    slower = joined(
        f"{ratio:.1f} times ({TITLES[network]})"
        for network, ratio in masked.groupby("network", sort=False).one_ratio.median().items()
    )
    said.append(
        f"**Masks** alone make the file larger. For one image the masked network takes"
        f" {slower} as long as the dense one. {energy(evidence)}{FOLD}"
        f"{(_sooner(masked) + _taken(evidence)).strip()}"
    )
    return said


def _sooner(masked: pandas.DataFrame) -> str:
    """Where masks alone save time for a batch all the same, in a sentence."""
    whole = masked[masked.pattern == "outputs"]
    ratios = 100 * whole.groupby(["network", "left"], sort=False).batch_ratio.median()
    said = [
        f" With neurons or channels removed from {TITLES[network]}, the masked network can be"
        f" faster for a batch, with {fast.min():.0f} to {fast.max():.0f} % of the dense one's"
        " time; why, we did not find out."
        for network, part in ratios.groupby(level=0, sort=False)
        if len(fast := part[part <= 100 * (1 - MARGIN)])
    ]
    return "".join(said)


def _files(row: pandas.Series) -> str:
    """From which density on the file of a form is smaller, in a sentence."""
    whole, single = (row[PATTERNS[name], "file"] for name in ("outputs", "scattered"))
    return (
        f"Its file in ONNX Runtime is smaller than the dense one at {_from(whole)} if whole"
        f" neurons or channels are removed, and at {_from(single)} if single weights are"
        " removed."
    )


def _taken(evidence: list[Record]) -> str:
    """What a process takes with the dense network, and with the compact one in the same
    runtime and in another, in sentences."""
    if not records.select(evidence, study="memory"):
        return ""
    table = memory(evidence)
    network = table.columns[0]
    dense, compact, other = (
        f"{table.loc[name, network]:.0f} MB"
        for name in (REFERENCE, "compact, torch", "compact, ONNX Runtime")
    )
    return (
        f" In torch a process takes {dense} with the dense network and {compact} with the"
        f" compact one. In ONNX Runtime it takes {other} with the compact one ({network})."
        " The libraries account for nearly all of this memory, and the dense network was not"
        " measured in ONNX Runtime, so nothing here shows that pruning saves memory."
    )


def first_look(evidence: list[Record]) -> pandas.DataFrame:
    """Rows pattern, density and form; columns one image and batch: mean processor time over
    that of the dense network in torch."""
    rows = frame(evidence).drop(columns="batch")
    rows["pattern"] = rows.pattern.map(PATTERNS)
    rows["asked"] = [f"{100 * density:g} %" for density in rows.asked]
    names = {"asked": "kept", "one_ratio": "one image", "batch_ratio": "batch"}
    rows = rows.rename(columns=names)
    return rows.groupby(["pattern", "kept", "form"], sort=False)[["one image", "batch"]].mean()


def _from(density: str) -> str:
    return "no measured density" if density == "–" else f"{density} of the weights or fewer"


def caption(evidence: list[Record], profile: str, drawn: str) -> str:
    """One line of Markdown for under a figure."""
    found = records.select(evidence, study="speed")
    seeds = {record["seed"] for record in found}
    rounds = {record["rounds"] for record in found}
    return origin(
        "recorded" if profile == "paper" else profile,
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}",
        f"one thread, {machine(evidence)}",
        f"processor time, median of {' or '.join(map(str, sorted(rounds)))} rounds in turn",
        drawn,
    )

"""How sentences, tables and figures of the chapter name what records call otherwise."""

from typing import Any

from pruning.evidence.statistics import joined

ACTIVATIONS = {"relu": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh"}
SCOPES = {"global": "the whole network", "layer": "each layer", "neuron": "each neuron"}
KINDS = {"relative": "normalised", "absolute": "absolute", "output": "change of the output"}
FIELDS = {
    "activation": "an activation",
    "activity": "a training",
    "sparsity": "a sparsity",
    "finetune_epochs": "a fine-tuning",
}


def reading(kind: str, blind: bool) -> str:
    """A reading of "contribution"."""
    return KINDS[kind] + ("" if blind else ", blind ranges ignored")


def training(activity: float) -> str:
    """How a network was trained, by λ."""
    return f"λ = {activity:g}"


def aware(activity: float) -> str:
    """What to add to the number of a network whose neurons were penalised as it trained."""
    return " after pruning-aware training" if activity else ""


def combination(kind: str, blind: bool, scope: str, activity: float) -> str:
    """A reading, a threshold and a training: "absolute, the whole network, λ = 0.1"."""
    return f"{reading(kind, blind)}, {SCOPES[scope]}, {training(activity)}"


def value(field: str, content: Any) -> str:
    """The value of one field of a record."""
    if field == "activation":
        return ACTIVATIONS.get(content, content)
    if field == "activity":
        return training(content)
    if field == "sparsity":
        return f"{100 * content:.0f} % removed"
    if field == "finetune_epochs":
        return "fine-tuned" if content else "not fine-tuned"
    return f"{field} {content}"


def case(fields: list[str], cell: Any) -> str:
    """The values of several fields: "ReLU, λ = 0.1, 75 % removed"."""
    contents = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(value(*pair) for pair in zip(fields, contents, strict=True))


def kinds(fields: list[str]) -> str:
    """What a case consists of: "an activation, a training and a sparsity"."""
    return joined(FIELDS[field] for field in fields)

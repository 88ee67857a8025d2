"""How the chapter names and draws its methods, which are optimizers and their controls."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """A method's name in tables and legends, its colour, and its marker."""

    label: str
    colour: str
    marker: str


LOOKS = {  # colours of Tol's vibrant and muted palettes
    "adam": Look("Adam", "#555555", "s"),
    "stochgradadam": Look("StochGradAdam", "#ee7733", "o"),
    "stochgradadam, author's β₁": Look("StochGradAdam, author's β₁", "#009988", "^"),
    "adam, author's β₁": Look("Adam, author's β₁", "#117733", "<"),
    "adam, 0.894 of the rate": Look("Adam, 0.894 of the rate", "#882255", ">"),
    "adam, 0.8 of the batch": Look("Adam, 0.8 of the batch", "#999933", "p"),
    "adamw": Look("AdamW", "#33bbee", "D"),
    "sgd": Look("SGD with momentum", "#ee3377", "v"),
    "adam, averaged": Look("Adam, averaged", "#332288", "h"),
}

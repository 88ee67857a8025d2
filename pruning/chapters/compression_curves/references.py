"""What a reader would try first on Income: scikit-learn's own models, beside the pruned
networks."""

from dataclasses import dataclass
from typing import ClassVar

from pruning import comparison
from pruning.bounds import Count
from pruning.evidence.configs import settle
from pruning.evidence.metrics import Metrics
from pruning.evidence.records import Record

DATASETS = ("income", "breast_cancer")  # of two classes
MODELS = ("logistic_regression", "gradient_boosting")


@dataclass(frozen=True)
class Reference:
    """One model of scikit-learn with its default settings. Its density is 1: nothing is
    pruned."""

    metrics: ClassVar[type[Metrics]] = Metrics

    dataset: str = "income"
    method: str = "logistic_regression"
    density: float = 1.0
    seed: Count = 0
    study: str = "curves"

    def __post_init__(self):
        settle(self, method=MODELS, study=("curves",), dataset=DATASETS, density=(1,))


def run(config: Reference) -> Record:
    """Fit and measure. A logistic regression has one weight a feature (and class, of more than
    two)."""
    # scikit-learn takes long to import, and most who import the chapter do not need it
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    data = comparison.load(config.dataset)
    if config.method == "logistic_regression":
        model = LogisticRegression(max_iter=1000)
    else:
        model = HistGradientBoostingClassifier(random_state=config.seed)
    model.fit(data.train.inputs.numpy(), data.train.targets.numpy())
    kept = int((model.coef_ != 0).sum()) if config.method == "logistic_regression" else None
    accuracy = model.score(data.test.inputs.numpy(), data.test.targets.numpy())
    return {
        "kept": kept,
        "effective": kept,
        "test_accuracy": float(accuracy),
        "provenance": {"data": data.checksum},
    }


def configs(seeds: range) -> list[Reference]:
    """The regression, which draws nothing at random, once, and the boosting for every seed."""
    return [Reference(), *(Reference(method="gradient_boosting", seed=seed) for seed in seeds)]

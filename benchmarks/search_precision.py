"""Whether the search of the chapter "Strong opponents" would choose the same settings in
float32.

    python -m benchmarks.search_precision [METHOD ...]

The search multiplies matrices in bfloat16. This trains its finalists at 404 weights, which are
on record, once more in float32 and prints the validation accuracies side by side.
"""

import sys

from pruning import comparison
from pruning.chapters.opponents import experiment
from pruning.evidence import configs, records

WEIGHTS = 404


def in_float32(config: experiment.Config) -> float:
    """Validation accuracy of one setting, torch's default precision."""
    data = comparison.load(config.dataset, config.split)
    model, told = comparison.train(config, data)
    return comparison.measured(config, data, model, told)["validation_accuracy"]


def main(methods: list[str]):
    known = records.read(records.records_folder() / "opponents.jsonl")
    on_record = {
        configs.of_record(record, experiment.Config): record["validation_accuracy"]
        for record in known
        if record["study"] == "search"
    }
    for method in methods or experiment.STRONG:
        settings = experiment.searches(WEIGHTS, method)
        found = {
            k: (100 * on_record[settings[k]], 100 * in_float32(settings[k]))
            for k in experiment.finalists(WEIGHTS, method, known)
            if settings[k] in on_record
        }
        best = [max(found, key=lambda k: found[k][column]) for column in (0, 1)]
        print(f"{method}, {WEIGHTS} weights: the same setting wins: {best[0] == best[1]}")
        for k, (half, full) in found.items():
            print(f"  setting {k:2}: bfloat16 {half:.2f} %, float32 {full:.2f} %", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

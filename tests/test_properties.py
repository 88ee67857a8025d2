"""What holds for every network, mask and record, on networks and records drawn at random."""

import math
import string
from fractions import Fraction

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning
from pruning.evidence import records
from pruning.networks import sparsity
from pruning.networks.masks import set_mask

FEW = settings(max_examples=25, deadline=None, derandomize=True)
SIZES = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
SEEDS = st.integers(0, 10**6)
PER_CENT = st.integers(0, 99)


def net(sizes, seed):
    torch.manual_seed(seed)
    return pruning.models.mlp(sizes, "tanh").eval()


def masked(sizes, seed, share):
    """A network whose weights are kept with probability `share`."""
    model = net(sizes, seed)
    for layer in model[::2]:
        set_mask(layer, torch.rand(layer.weight.shape) < share)
    return model


def largest_stay(mask, score):
    return not mask.any() or mask.all() or score[~mask].max() <= score[mask].min()


@FEW
@given(SIZES, SEEDS, PER_CENT, st.sampled_from(["global", "layer", "neuron"]))
@pytest.mark.filterwarnings("ignore:model. no weight is left")
def test_counts_of_masks(sizes, seed, per_cent, scope):
    model = net(sizes, seed)
    scores = pruning.random_scores(model, torch.Generator().manual_seed(seed))
    pruning.prune_by_score(model, scores, per_cent / 100, scope)
    masks = pruning.masks(model)
    for name, mask in masks.items():
        rows = {"global": [], "layer": [mask.flatten()], "neuron": list(mask)}[scope]
        values = {"global": [], "layer": [scores[name].flatten()], "neuron": scores[name]}
        for row, score in zip(rows, values[scope], strict=True):
            assert (~row).sum() == math.ceil(Fraction(per_cent, 100) * len(row))
            assert largest_stay(row, score)
    flat = torch.cat([mask.flatten() for mask in masks.values()])
    if scope == "global":
        score = torch.cat([score.flatten() for score in scores.values()])
        assert (~flat).sum() == math.ceil(Fraction(per_cent, 100) * len(flat))
        assert largest_stay(flat, score)
    report = pruning.sparsity_report(model)
    assert report.kept.sum() == flat.sum()
    assert report.weights.sum() == len(flat)
    plain = pruning.finalize(model)
    for name, mask in masks.items():
        assert torch.equal(plain.get_submodule(name).weight != 0, mask)


@FEW
@given(SIZES, SEEDS, PER_CENT, PER_CENT)
@pytest.mark.filterwarnings("ignore:model. no weight is left")
def test_what_is_pruned_stays_pruned(sizes, seed, first, second):
    model = net(sizes, seed)
    scores = pruning.random_scores(model, torch.Generator().manual_seed(seed))
    pruning.prune_by_score(model, scores, first / 100)
    before = pruning.masks(model)
    pruning.prune_by_score(model, scores, second / 100)
    after = pruning.masks(model)
    assert all((after[name] <= mask).all() for name, mask in before.items())
    total = sum(mask.numel() for mask in after.values())
    removed = total - sum(int(mask.sum()) for mask in after.values())
    assert removed == math.ceil(Fraction(max(first, second), 100) * total)


@FEW
@given(SIZES, SEEDS, st.integers(1, 60))
@pytest.mark.filterwarnings("ignore:model. no weight is left")
def test_a_budget_keeps_the_most_probable_of_the_open_gates(sizes, seed, budget):
    model = pruning.gate(net(sizes, seed), init=0.5)
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.normal_()
    logits = torch.cat([p.detach().flatten() for p in pruning.gate_parameters(model)])
    pruning.harden(model, at_most=budget)
    kept = torch.cat([mask.flatten() for mask in pruning.masks(model).values()])
    assert kept.sum() == min(budget, (logits > 0).sum())
    assert (logits[kept] > 0).all()
    assert largest_stay(kept[logits > 0], logits[logits > 0])


def on_a_path(model):
    """Kept weights from which an output can be reached and that an input reaches, by
    networkx."""
    masks = list(pruning.masks(model).values())
    graph = networkx.DiGraph()
    for level, mask in enumerate(masks):
        graph.add_edges_from(
            ((level, source), (level + 1, target))
            for target, source in mask.nonzero().tolist()
        )
    graph.add_nodes_from((0, source) for source in range(masks[0].shape[1]))
    graph.add_nodes_from((len(masks), target) for target in range(len(masks[-1])))
    inputs = [node for node in graph if node[0] == 0]
    outputs = [node for node in graph if node[0] == len(masks)]
    reached = set().union(*(networkx.descendants(graph, node) | {node} for node in inputs))
    reaching = set().union(*(networkx.ancestors(graph, node) | {node} for node in outputs))
    return sum(source in reached and target in reaching for source, target in graph.edges)


@FEW
@given(SIZES, SEEDS, st.floats(0.1, 1))
def test_effective_weights_lie_on_a_path(sizes, seed, share):
    model = masked(sizes, seed, share)
    expected = on_a_path(model)
    assert pruning.effective_weights(model) == expected
    assert pruning.sparsity_report(model).effective.sum() == expected


@FEW
@given(SIZES, SEEDS, st.floats(0.1, 1))
def test_compact_has_the_same_outputs_and_no_more_weights(sizes, seed, share):
    model, x = masked(sizes, seed, share), torch.randn(9, sizes[0])
    small = pruning.compact(model)
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-5)
    dense = sum(mask.numel() for mask in sparsity.masks(model).values())
    assert sum(p.numel() for p in small.parameters() if p.dim() == 2) <= dense


# records refuse < and >, see `schema.check`
TEXTS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
FRACTIONS = st.floats(0, 1)
NAMES = st.text(string.ascii_lowercase, min_size=1).map("setting_".__add__)


@FEW
@given(
    st.lists(
        st.tuples(st.dictionaries(NAMES, JSON, max_size=4), FRACTIONS, st.integers(0, 99)),
        max_size=5,
    )
)
def test_records_read_as_they_were_written(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("records") / "some.jsonl"
    provenance = {
        "commit": "0" * 40,
        "versions": {"torch": "2.15.0"},
        "device": "cpu",
        "threads": 1,
        "finished": "2026-01-01T00:00:00+00:00",
        "seconds": 0.5,
    }
    written = [
        {
            "dataset": "digits",
            "method": "gates",
            "seed": seed,
            **config,
            "kept": kept,
            "effective": kept,
            "test_accuracy": accuracy,
            "provenance": provenance,
        }
        for seed, (config, accuracy, kept) in enumerate(drawn)
    ]
    for record in written:
        records.append(path, record)
    assert records.read(path) == written
    with path.open("ab") as file:
        file.write(b'{"dataset": "dig')  # a write that was cut off
    assert records.read(path) == written

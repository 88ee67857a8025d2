import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import torch
from scipy import stats

from pruning.chapters.smallest import experiment as smallest
from pruning.chapters.why_gates_win import arms, experiment, figures, tables
from pruning.evidence.configs import changed, flat
from pruning.networks import models, wirings

REWIRINGS = {
    name: rewire for name, (rewire, start) in experiment.ARMS.items() if start == "new"
}
WIDTHS = (40, 20, 12, 5)
COUNTS, NEURONS = (30, 18, 12), (9, 6, 5)


@pytest.fixture
def varying():
    return torch.arange(40) % 4 > 0


@pytest.fixture
def wiring(varying):
    """Weights on paths alone: a layer's neurons are the next one's inputs."""
    shapes = [torch.zeros(o, i, dtype=torch.bool) for i, o in itertools.pairwise(WIDTHS)]
    for layer, count, neurons in zip(shapes, COUNTS, NEURONS, strict=True):
        for k in range(count):
            layer[k % neurons, k // neurons] = True
    return arms.paths(shapes, varying, np.random.default_rng(0))


def counts(masks):
    return [int(mask.sum()) for mask in masks]


@pytest.mark.parametrize("arm", REWIRINGS)
def test_every_layer_keeps_its_number_and_constant_pixels_stay_out(arm, wiring, varying):
    drawn = REWIRINGS[arm](wiring, varying, np.random.default_rng(3))
    assert counts(drawn) == counts(wiring)
    assert not drawn[0][:, ~varying].any()
    again = REWIRINGS[arm](wiring, varying, np.random.default_rng(3))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    if arm != "mask":
        assert any(not torch.equal(a, b) for a, b in zip(drawn, wiring, strict=True))


def test_degrees_keep_every_row_and_column_sum(wiring, varying):
    drawn = arms.degrees(wiring, varying, np.random.default_rng(3))
    for before, after in zip(wiring, drawn, strict=True):
        assert torch.equal(before.sum(0), after.sum(0))
        assert torch.equal(before.sum(1), after.sum(1))


def test_inputs_keep_every_row_sum_and_read_nothing_new(wiring, varying):
    for before, after in zip(
        wiring, arms.inputs(wiring, varying, np.random.default_rng(3)), strict=True
    ):
        assert torch.equal(before.sum(1), after.sum(1))
        assert not after[:, ~before.any(0)].any()


def test_paths_keep_the_living_neurons_and_every_weight_lies_on_a_path(wiring, varying):
    drawn = arms.paths(wiring, varying, np.random.default_rng(3))
    assert counts(wirings.living(drawn)) == counts(drawn)
    assert [int(mask.any(1).sum()) for mask in drawn] == [
        int(mask.any(1).sum()) for mask in wiring
    ]


def test_pixels_move_columns_and_leave_the_rest(wiring, varying):
    drawn = arms.pixels(wiring, varying, np.random.default_rng(3))
    columns = sorted(map(tuple, wiring[0].T.tolist()))
    assert sorted(map(tuple, drawn[0].T.tolist())) == columns
    assert all(torch.equal(a, b) for a, b in zip(drawn[1:], wiring[1:], strict=True))


@pytest.fixture
def on_record(monkeypatch, wiring):
    torch.manual_seed(5)
    weights = [mask * torch.randn(mask.shape) for mask in wiring]
    record = {
        "widths": list(WIDTHS),
        "connections": [
            [level, i, o, weights[level][o, i].item()]
            for level, mask in enumerate(wiring)
            for o, i in mask.nonzero().tolist()
        ],
        "bias_values": [torch.randn(width).tolist() for width in WIDTHS[1:]],
    }
    monkeypatch.setattr(experiment, "network", lambda *_: record)
    return record, weights


def test_an_arm_begins_with_what_it_says(on_record, wiring, varying):
    record, weights = on_record
    base = experiment.Config(study="again", arm="mask", network=3, seed=1, rate=0.1, epochs=1)
    found = {
        arm: experiment.prepared(dataclasses.replace(base, arm=arm), varying)
        for arm in experiment.ARMS
    }
    assert all(torch.allclose(a, b) for a, b in zip(found["found"][0], weights, strict=True))
    assert found["found"][2][0].tolist() == pytest.approx(record["bias_values"][0])
    for new, same, weight in zip(found["mask"][0], found["signs"][0], weights, strict=True):
        kept = weight != 0
        assert torch.equal(same[kept].sign(), weight[kept].sign())
        assert torch.equal(same[kept].abs(), new[kept].abs())
    torch.manual_seed(3)
    first = models.mlp(WIDTHS, "silu")
    assert torch.equal(found["first"][0][0], first[0].weight)
    assert not torch.equal(found["mask"][0][0], first[0].weight)


def test_stacks_hold_one_rate_and_at_most_thirty_networks():
    configs = experiment.configs("paper")
    groups = experiment.groups(configs)
    assert sorted(map(str, configs)) == sorted(
        str(config) for group in groups for config in group
    )
    assert max(map(len, groups)) == 30
    for group in groups:
        assert len({(config.seed, config.rate, config.split) for config in group}) == 1
        assert len(group) == 1 or group[0].study in ("again", "rates")


def test_a_digits_network_is_taken_apart_and_one_that_moves_keeps_its_weights():
    base = experiment.Config("digits", "again", arm="found", weights=100, rate=0.03, epochs=2)
    made = [dataclasses.replace(base, arm=arm) for arm in ("found", "layers")]
    found, random = experiment.again(made)
    assert found["kept"] == random["kept"] == 100
    assert found["test_accuracy"] > random["test_accuracy"] + 0.2
    still = experiment.run(dataclasses.replace(base, study="moving", arm="gates"))
    moved = experiment.run(
        dataclasses.replace(base, study="moving", arm="gates", fraction=0.5, epochs=4)
    )
    assert still["kept"] == moved["kept"] == 100
    assert still["stayed"] == 100
    assert moved["stayed"] < 100


def test_bad_input_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="arm: got 'half', needs one of"):
        experiment.Config(study="again", arm="half")
    with pytest.raises(ValueError, match="epochs: got 0, needs a number above 0"):
        experiment.Config(study="again", arm="mask", rate=0.1)
    with pytest.raises(ValueError, match="profile: got 'slow'"):
        experiment.configs("slow")
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path))
    with pytest.raises(LookupError, match="run the study 'networks' first"):
        experiment.network("mnist", "gates", 404, 12345)


def test_the_opponents_networks_are_those_of_the_settings_that_their_search_chose():
    theirs = experiment.opponents()
    assert {r["kept"] for r in theirs} == {experiment.WEIGHTS}
    assert {r["method"] for r in theirs} == set(experiment.OPPONENTS)
    configs = [c for c in experiment.configs("paper") if c.wiring]
    assert len(configs) == len(theirs) * experiment.AGAIN
    chosen = {experiment.checksum(r): r for r in theirs}
    assert len(chosen) == len(theirs)
    for config in configs[:: experiment.AGAIN * len(experiment.OPPONENTS)]:
        found = experiment.network("mnist", config.method, 404, config.network, config.wiring)
        assert found == chosen[config.wiring]
    with pytest.raises(LookupError, match=r"has no network .*'wiring': '00000000'"):
        experiment.network("mnist", "rigl", 404, 0, "00000000")


def of_network(network, masks):
    """A record of a network whose weights are all 1."""
    return {
        "network": network,
        "widths": list(WIDTHS),
        "test_accuracy": 0.9,
        "connections": [
            [level, i, o, 1.0]
            for level, mask in enumerate(masks)
            for o, i in mask.nonzero().tolist()
        ],
        "bias_values": [[0.0] * width for width in WIDTHS[1:]],
    }


def test_what_networks_share_is_counted_beside_chance(wiring, varying):
    order = torch.randperm(len(wiring[0]))
    same = of_network(0, wiring), of_network(1, [wiring[0][order], *wiring[1:]])
    table = tables.overlap(same, varying, varying.double(), draws=20)
    assert "Of 30 connections of the first layer they share 30." in tables.overlap_says(table)
    pixels = int(wiring[0].any(0).sum())
    assert table["shared"].tolist() == [
        pixels,
        30,
    ]  # neurons are matched, whatever their order
    assert table["of"].tolist() == [pixels, 30]
    expected = pixels**2 / int(varying.sum())  # hypergeometric
    assert table["uniform"]["pixels"] == pytest.approx(expected, abs=1.5)
    assert table["degrees"]["connections"] < 30


def test_the_table_of_arms_takes_networks_as_the_sample():
    found = [
        {
            "arm": arm,
            "network": network,
            "seed": seed,
            "effective": 400,
            "test_accuracy": accuracy + 0.01 * network,
            "train_accuracy": 0.9,
        }
        for arm, accuracy in (("mask", 0.9), ("layers", 0.2))
        for network in range(3)
        for seed in range(2)
    ]
    table = tables.by_arm(found)
    assert table.index.tolist() == ["mask", "layers"]
    assert table["mean"].tolist() == pytest.approx([91, 21])
    assert table["sd"].tolist() == pytest.approx([1, 1])
    assert tables.plus_minus(table, "mask") == "91.0 ± 1.0"
    every = pandas.concat(dict.fromkeys(experiment.ARMS, table.loc["layers"]), axis=1).T
    assert "each layer is kept, most of them lie on no path, and 21.0 ± 1.0 % are left" in (
        tables.arms_say(every)
    )


def test_what_moves_is_compared_with_what_does_not():
    def run(fraction, network, accuracy, stayed=404):
        where = {"fraction": fraction, "network": network, "stayed": stayed}
        return where | {"test_accuracy": accuracy}

    found = [run(0.0, 0, 0.96), run(0.1, 0, 0.95, 300)]
    table = tables.moved(found, [{"network": 0, "test_accuracy": 0.955}])
    assert table["before"].tolist() == pytest.approx([95.5, 95.5])
    assert table.change.tolist() == ["–", "−1.00"]
    said = tables.moving_says(table)
    assert "ends at 96.00 %" in said
    assert "changes this accuracy by −1.00 at 10 % (1 network, measured" in said
    assert "no evidence yet, with 1 of 3 networks" in said
    found += [run(0.0, n, 0.96 + 0.01 * n) for n in (1, 2)]
    found += [run(0.1, n, 0.945 + 0.01 * n, 300) for n in (1, 2)]
    whole = tables.moved(found, [{"network": n, "test_accuracy": 0.955} for n in range(3)])
    known = stats.ttest_rel([0.95, 0.955, 0.965], [0.96, 0.97, 0.98]).confidence_interval()
    ends = f"[{100 * known.low:.2f}, {100 * known.high:.2f}]".replace("-", "−")
    assert whole.change[1] == f"−1.33 {ends}"
    assert "no evidence" not in tables.moving_says(whole)
    assert "not on record" in tables.moving_says(tables.moved([], []))
    # without the runs that nothing was exchanged in there is nothing to compare with
    assert tables.moved(found[1:2], [{"network": 0, "test_accuracy": 0.9}]).change[0] == "–"


def test_wirings_of_methods_stand_beside_their_own_networks():
    connections = [[0, 1, 2, 0.5]], [[0, 1, 3, 0.5]], [[0, 1, 4, 0.5]]
    own = [
        {"method": "gates", "network": 0, "effective": 400, "test_accuracy": 0.96},
        *(
            {
                "method": "rigl",
                "seed": s,
                "effective": 390,
                "test_accuracy": a,
                "connections": c,
            }
            for s, a, c in zip((0, 1, 0), (0.91, 0.92, 0.99), connections, strict=True)
        ),
    ]
    taken = {"gates": [("", 0.94)], "rigl": [(experiment.checksum(r), 0.89) for r in own[1:3]]}
    taken["rigl"].append(("", 0.99))  # from before networks were named
    again = [
        {"method": m, "arm": "mask", "network": k, "seed": s, "test_accuracy": a, "wiring": w}
        for m, parts in taken.items()
        for k, (w, a) in enumerate(parts)
        for s in range(3)
    ]
    each = tables.each_wiring(again, own)
    table = tables.wirings_of(each)
    assert table.method.tolist() == ["gates", "RigL"]
    assert table.networks.tolist() == [1, 2]
    assert table.own.tolist() == pytest.approx([96, 91.5])
    assert table.wiring.tolist() == pytest.approx([94, 89])
    said = tables.wirings_say(each)
    assert "that of RigL (2 networks). New weights on it are 5.0 points less accurate" in said
    better = each.assign(wiring=[88.0, 89.0, 89.0])
    assert "are 1.0 points more accurate" in tables.wirings_say(better)
    assert "not on record" in tables.wirings_say(each[:1])


def test_gaps_between_wirings_have_an_interval_and_a_share():
    values = {  # method → own accuracy and that of its wiring, a network each
        "gates": ([96.0, 96.2, 95.8], [94.0, 94.4, 93.6]),
        "RigL": ([92.0, 92.2, 91.8], [91.0, 91.5, 90.5]),
        "DeepR": ([88.0, 88.0, 88.0], [90.0, 90.0, 90.0]),
    }
    each = pandas.DataFrame(
        [
            {"method": method, "own": own, "wiring": wiring, "effective": 400}
            for method, pairs in values.items()
            for own, wiring in zip(*pairs, strict=True)
        ]
    )
    ends = stats.ttest_ind(values["gates"][1], values["RigL"][1], equal_var=False)
    low, high = ends.confidence_interval()
    said = tables.wirings_say(each)
    assert f"are 3.0 [{low:.1f}, {high:.1f}] points less accurate" in said
    # RigL 3 of 4 points, DeepR 4 of 8
    assert "between 50 % (DeepR) and 75 % (RigL) is left" in said


def test_settings_are_clear_or_not():
    base = {"study": "ablation", "split": "validation"}
    base = changed(smallest.BASE, **base)
    found = [
        flat(changed(base, seed=seed, **move))
        | {
            "validation_accuracy": 0.95 + gain + 0.001 * seed + noise * (seed - 1),
            "kept": kept,
        }
        for seed in range(3)
        for move, gain, noise, kept in (
            ({}, 0.0, 0.0, 400),
            ({"tau": 0.1}, -0.04, 0.0005, 800),
            ({"tau": 3.0}, 0.0002, 0.0, 401),
            ({"init": 0.5}, 0.01, -0.0005, 399),
        )
    ]
    table = tables.conditions(found)
    temperature = table[table.setting == "temperature τ"]
    assert temperature.value.tolist() == [0.1, smallest.BASE.settings.tau, 3.0]
    assert temperature.gain.tolist() == pytest.approx([-4, 0, 0.02])
    assert np.isnan(temperature.p.iloc[1])
    assert tables.conditions_say(table) == (
        "These values clearly gain: keep probability at the start 0.5 (+1.0 points, 399"
        " weights). These values clearly lose: temperature τ 0.1 (−4.0 points, 800 weights)."
        " The p-values are corrected for all moves of that chapter."
    )
    few = [r for r in found if r["seed"] < 2]
    assert "too few to tell" in tables.conditions_say(tables.conditions(few))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0.1}, "rate: got 0.1, study 'networks' makes no use of it"),
        (
            {"study": "moving", "arm": "mask"},
            "arm: got 'mask', study 'moving' makes no use of it",
        ),
        (
            {"study": "again", "arm": "mask", "wiring": "01234567"},
            "wiring: got '01234567', a network of gates is named by its seed",
        ),
        (
            {"study": "again", "arm": "mask", "fraction": 0.1},
            "fraction: got 0.1, study 'again'",
        ),
    ],
)
def test_a_field_that_a_study_ignores_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**values)


def _arms(wiring, random):
    """Networks of 96 %, whose wiring and a random one were trained again twice each."""
    again = [
        {"arm": arm, "network": network, "seed": seed, "test_accuracy": accuracy}
        for arm, values in {
            "mask": wiring,
            "paths": random,
            "signs": [0.95] * 3,
            "degrees": [0.86] * 3,
            "pixels": [0.78] * 3,
        }.items()
        for network, accuracy in enumerate(values)
        for seed in range(2)
    ]
    networks = [{"network": n, "kept": 404, "test_accuracy": 0.96} for n in range(3)]
    return again, networks


def test_the_last_sentence_says_no_more_than_the_records():
    again, networks = _arms([0.94, 0.94, 0.94], [0.76, 0.76, 0.76])
    said = tables.moral(again, networks)
    assert "is worth 90 % of their lead" in said
    # 94 − 86 of 96 − 86 points
    assert "shape**, and 80 % of their lead over one in which each pixel and neuron" in said
    bare = [r for r in again if r["arm"] not in ("degrees", "pixels")]
    assert tables.moral(bare, networks).endswith("of the same shape**.")
    assert "the gates lose 2.0 points, and on a random wiring of the same shape 20.0" in said
    unsettled = _arms([0.94, 0.94, 0.78], [0.76, 0.76, 0.76])
    assert "do not say yet" in tables.moral(*unsettled)
    few = [r for r in again if r["network"] < 2], networks[:2]
    assert "do not say yet" in tables.moral(*few)


def test_the_answer_compares_networks_with_their_own_parts():
    again, networks = _arms([0.93, 0.94, 0.95], [0.76, 0.76, 0.76])
    each = tables.each_wiring(
        [r | {"method": "gates", "effective": 404} for r in again if r["arm"] == "mask"],
        [r | {"method": "gates", "seed": r["network"], "effective": 404} for r in networks],
    )
    wirings = tables.wirings_of(each)
    first, second, counts = tables.answer(again, networks, wirings)
    # 86 − 76 of 93 − 76, 94 − 76 and 95 − 76 points
    assert "86.0 % are left: they are worth 56 [48, 63] % of what" in counts
    assert "If the pixels change places, 78.0 % are left." in counts
    bare = [r for r in again if r["arm"] not in ("degrees", "pixels")]
    assert tables.answer(bare, networks, wirings) == [first, second]
    assert "**94.0 [91.5, 96.5] %**" in first  # 4.303 / sqrt(3) around the mean
    assert "**76.0 %**" in first
    assert "another 1.0 [−1.5, 3.5] points, and their sizes 1.0" in second
    other = wirings.assign(method="RigL", wiring=89.0)
    *_, third = tables.answer(again, networks, other)
    assert third.startswith("The strong opponents lack this wiring.")
    assert "(RigL, 3 networks) reaches 89.0 %" in third
    *_, hint = tables.answer(again, networks, other.assign(networks=1))
    assert "lack" not in hint
    assert hint.endswith("Fewer than 3 networks of an opponent are a hint and no evidence.")
    *_, level = tables.answer(again, networks, wirings.assign(method="RigL", wiring=93.0))
    assert "lack" not in level


def test_pixels_are_counted_over_networks(wiring, varying):
    moved = [wiring[0].roll(1, 0), *wiring[1:]]
    counts = tables.read_by([of_network(0, wiring), of_network(1, moved)])
    assert counts.tolist() == (2 * wiring[0].any(0).int()).tolist()


def test_figures_draw_their_tables():
    fig, (first, *panels) = plt.subplots(1, 3)
    table = pandas.DataFrame(
        {
            "method": ["gates", "RigL"],
            "networks": [8, 1],
            "own": [96.0, 91.0],
            "wiring": [94.0, 89.0],
        }
    )
    figures.wirings(table, first)
    assert [label.get_text() for label in first.get_yticklabels()] == ["gates (8)", "RigL (1)"]
    assert first.lines[1].get_xdata().tolist() == [94, 89]
    rows = [("τ", 0.1, 0.01, -5.0), ("τ", 2.0, np.nan, 0.0), ("start", 0.5, 0.3, 1.0)]
    moves = pandas.DataFrame(rows, columns=["setting", "value", "p", "gain"])
    figures.conditions(moves, panels)
    assert [panel.get_xscale() for panel in panels] == ["log", "linear"]
    assert [line.get_markerfacecolor() for line in panels[0].lines[2:]] == ["C0", "white"]
    figures.pixel_map(range(4), 2, first, "networks")
    assert first.images[0].get_array().tolist() == [[0, 1], [2, 3]]
    plt.close(fig)

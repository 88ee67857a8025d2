"""Flat values and nested settings: what a record and the command line call things."""

import pytest

from pruning.chapters.compression_curves.experiment import Config
from pruning.evidence import configs
from pruning.methods import gates_training


def test_flat_values_make_the_config_that_they_came_from():
    config = configs.make(Config, method="gates", tau=3.0, hidden=(20, 10), split="validation")
    assert config.settings == gates_training.Settings(tau=3.0)
    assert configs.of_record(configs.flat(config), Config) == config
    assert configs.changed(config, tau=2.0, seed=4) == configs.make(
        Config, hidden=(20, 10), split="validation", seed=4
    )


def test_another_method_starts_from_its_own_defaults():
    other = configs.changed(configs.make(Config, tau=3.0, finetune_lr=0.5), method="set")
    assert other.settings == Config.settings_of("set")()


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["tau=3", "seed=5"], {"tau": 3.0, "seed": 5}),
        (["hidden=32,16"], {"hidden": (32, 16)}),
        (["allocation=0.5,0.3,0.2"], {"allocation": (0.5, 0.3, 0.2)}),
        (["method=set", "fraction=0.2"], {"method": "set", "fraction": 0.2}),
    ],
)
def test_texts_take_the_type_of_their_field(texts, found):
    assert configs.parse(Config(), texts) == found


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["taau=3"], "taau: no such setting, needs one of .*tau"),
        (["tau=high"], "tau: got 'high', needs a value such as 2.0"),
        (["seed=0.5"], "seed: got '0.5'"),
        (["density=inf"], "density: got 'inf'"),
        (["method=set", "tau=3"], "tau: no such setting, needs one of .*fraction"),
        (["method=magic"], "method: got 'magic', needs one of"),
        (["tau"], "set: got 'tau', needs name=value"),
    ],
)
def test_a_wrong_name_or_value_is_one_line(texts, words):
    with pytest.raises(ValueError, match=words) as caught:
        configs.parse(Config(), texts)
    assert "\n" not in str(caught.value)


def test_a_list_is_narrowed_by_values_that_it_has_and_changed_by_others():
    listed = [
        configs.make(Config, method=m, seed=s) for m in ("gates", "set") for s in range(3)
    ]
    assert configs.narrowed(listed, ["seed=1"]) == [listed[1], listed[4]]
    assert configs.narrowed(listed, ["method=set", "seed=7"]) == [
        configs.changed(listed[3], seed=7)
    ]
    hot = configs.narrowed(listed, ["tau=3"])  # which the gates alone know
    assert [(c.method, c.settings.tau) for c in hot] == [("gates", 3.0)] * 3
    with pytest.raises(ValueError, match="taau"):
        configs.narrowed(listed, ["taau=3"])

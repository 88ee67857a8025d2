import copy
import math

import pytest
import torch
from torch.nn.utils import parametrizations
from torch_models import MODELS

import pruning
from pruning import training
from pruning.methods import l0
from pruning.networks import masks, models
from pruning.networks.graph import plain_copy


@pytest.mark.parametrize("log_alpha", [-3.0, -1.0, 0.0, 1.5])
def test_the_probability_of_an_open_gate_is_that_of_its_samples(log_alpha):
    gating = l0.HardConcrete(torch.ones(400, 500), 2 / 3, 0.5).train()
    torch.nn.init.constant_(gating.log_alpha, log_alpha)
    open_share = (gating(torch.ones(400, 500)) != 0).float().mean().item()
    # the distribution function of the stretched concrete variable at 0, written out
    at = -l0.LOW / (l0.HIGH - l0.LOW)
    closed = 1 / (1 + math.exp(-(2 / 3 * (math.log(at) - math.log(1 - at)) - log_alpha)))
    assert gating.open()[0, 0].item() == pytest.approx(1 - closed, abs=1e-6)
    assert open_share == pytest.approx(
        1 - closed, abs=4 * math.sqrt(closed * (1 - closed) / 200_000)
    )


def test_samples_have_both_ends_and_stay_in_the_unit_interval():
    gating = l0.HardConcrete(torch.ones(400, 500), 2 / 3, 0.5).train()
    z = gating(torch.ones(400, 500))
    assert z.min() == 0
    assert z.max() == 1
    assert 0.2 < ((z > 0) & (z < 1)).float().mean() < 0.8
    # at log α = 0 the distribution is symmetric about ½
    assert (z == 0).float().mean().item() == pytest.approx(
        (z == 1).float().mean().item(), abs=0.005
    )


def test_evaluation_is_deterministic_and_the_mask_is_where_it_is_not_zero():
    model = l0.gate(models.mlp((8, 6, 4)))
    for gating in l0.gates(model).values():
        torch.nn.init.normal_(gating.log_alpha, std=4)
    model.eval()
    x = torch.randn(3, 8)
    assert torch.equal(model(x), model(x))
    layer = model[0]
    assert torch.equal(layer.weight != 0, l0.gates(model)["0"].mask())
    model.train()
    assert not torch.equal(model(x), model(x))


def test_the_expected_count_has_the_gradient_of_the_formula():
    model = l0.gate(models.mlp((8, 6, 4)))
    l0.expected_weights(model).backward()
    gating = l0.gates(model)["0"]
    p = gating.open().detach()
    torch.testing.assert_close(gating.log_alpha.grad, p * (1 - p))


def test_hardening_keeps_the_budget_and_what_evaluation_computes():
    model = l0.gate(models.mlp((8, 6, 4))).eval()
    for gating in l0.gates(model).values():
        torch.nn.init.normal_(gating.log_alpha, std=4)
    open_gates = sum(int(gating.mask().sum()) for gating in l0.gates(model).values())
    x = torch.randn(5, 8)
    before = model(x)
    l0.harden(model, open_gates)
    torch.testing.assert_close(model(x), before)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == open_gates


@pytest.mark.parametrize("settings", [{"factor": 5.0}, {"penalty": "target", "factor": 3.0}])
def test_training_ends_at_the_budget_and_still_tells_digits_apart(digits, settings):
    model = models.mlp((64, 32, 10))
    callback = l0.L0(weights=300, **settings)

    def optimizer(model):
        return training.adam(model, 2e-2)

    data = digits.train.inputs, digits.train.targets
    training.fit(
        model, *data, epochs=30, batch_size=64, callbacks=[callback], optimizer=optimizer
    )
    training.fit(model, *data, epochs=5)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == 300
    assert training.evaluate(model, digits.test.inputs, digits.test.targets).accuracy > 0.8


@pytest.mark.parametrize(
    "bad", [{"temperature": 0}, {"temperature": math.inf}, {"init": 1.0}, {"init": 0.0}]
)
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        l0.gate(models.mlp((4, 3)), **bad)
    for wrong in {"factor": -1.0}, {"descent": 0.0}, {"descent": 1.1}:
        with pytest.raises(ValueError, match="factor, descent: got"):
            l0.L0(10, **wrong)
    with pytest.raises(ValueError, match="penalty: got 'l1'"):
        l0.L0(10, penalty="l1")
    with pytest.raises(ValueError, match="no hard-concrete gate"):
        l0.expected_weights(models.mlp((4, 3)))


@pytest.mark.parametrize("name", MODELS)
def test_every_prunable_weight_has_a_gate(name):
    make, shape = MODELS[name]
    model, x = l0.gate(make()).train(), torch.randn(shape)
    keys = [key for key, _, _ in pruning.prunable(model)]
    assert list(l0.gates(model)) == keys
    out = model(x)
    ((out * torch.randn_like(out)).sum() + l0.expected_weights(model)).backward()
    for key, gating in l0.gates(model).items():
        p = gating.open().detach()
        assert not torch.allclose(gating.log_alpha.grad, p * (1 - p)), key  # of the loss too
    for gating in l0.gates(model).values():
        torch.nn.init.normal_(gating.log_alpha, std=4)
    count = sum(int(gating.mask().sum()) for gating in l0.gates(model).values())
    before, copied = model.eval()(x), copy.deepcopy(model)
    l0.harden(model, count)
    torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(copied(x), before)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == count
    plain = make()
    plain.load_state_dict(pruning.finalize(model).state_dict())
    torch.testing.assert_close(plain.eval()(x), before)


def test_weights_that_are_no_plain_parameters_are_refused():
    normed = models.mlp((4, 3, 2))
    parametrizations.weight_norm(normed[0])
    with pytest.raises(ValueError, match=r"'0' is gated or par.*makes it plain"):
        l0.gate(normed)
    pruned = models.mlp((4, 3, 2))
    pruning.prune_by_score(pruned, pruning.magnitude(pruned), 0.5)
    with pytest.raises(ValueError, match="'0' carries a mask"):
        l0.gate(pruned)


def test_parameters_without_a_gate_are_named():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3))
    with pytest.warns(UserWarning, match=r"\['0.weight'\] have no gates"):
        l0.gate(model)


def test_what_the_penalties_are():
    model = models.mlp((8, 6, 4))  # 72 weights
    usual = l0.L0(weights=9)
    assert (usual.factor, usual.form, usual.descent) == (1.0, "sum", 0.5)
    assert (usual.temperature, usual.init, usual.allocation) == (2 / 3, 0.5, "global")
    assert l0.L0(9, factor=0.0, descent=1.0).factor == 0
    usual.start(model)
    for gating in l0.gates(model).values():
        torch.nn.init.constant_(gating.log_alpha, -1.0)
    share = 1 / (1 + math.exp(1 + 2 / 3 * math.log(0.1 / 1.1)))  # P(z ≠ 0) of each gate
    assert l0.expected_weights(model).item() == pytest.approx(72 * share, rel=1e-5)
    for factor in (1.0, 3.0):
        summed = l0.L0(9, factor)
        assert summed.penalty(model, 0.3).item() == pytest.approx(factor * share, rel=1e-5)
        aimed = l0.L0(9, factor, "target", descent=0.6)
        # from 72 to 9, three halvings by the end of the descent
        for progress, aim in ((0.0, 72), (0.2, 36), (0.4, 18), (0.6, 9), (0.9, 9)):
            wanted = factor * abs(math.log(72 * share / aim))
            assert aimed.penalty(model, progress).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_gates_are_in_the_mode_of_their_layer_and_start_at_init(training):
    model = l0.gate(models.mlp((8, 6, 4)).train(training))
    assert all(each.training == training for each in l0.gates(model).values())
    assert all(not each.log_alpha.any() for each in l0.gates(model).values())  # init ½
    gating = l0.gates(l0.gate(models.mlp((8, 6, 4)), 0.4, 0.8))["0"]
    assert gating.temperature == 0.4
    torch.testing.assert_close(gating.log_alpha.sigmoid(), torch.full((6, 8), 0.8))


def test_evaluation_multiplies_by_the_mean_gate():
    gating = l0.HardConcrete(torch.ones(7), 2 / 3, 0.5).eval()
    locations = [-6.0, -2.4, -2.0, 0.0, 1.0, 2.3, 6.0]
    gating.log_alpha.data = torch.tensor(locations)
    # ẑ: the sigmoid, stretched from (0, 1) to (−0.1, 1.1) and cut
    sigmoids = [1 / (1 + math.exp(-each)) for each in locations]
    expected = [min(1.0, max(0.0, 1.2 * each - 0.1)) for each in sigmoids]
    assert expected[0] == 0
    assert expected[-1] == 1
    assert gating.mean().tolist() == pytest.approx(expected, abs=1e-6)
    assert gating(torch.full((7,), -3.0)).tolist() == pytest.approx(
        [-3 * each for each in expected], abs=1e-6
    )
    assert gating.mask().tolist() == [each > 0 for each in expected]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_gates_of_another_precision_compute_in_float32_and_keep_it(dtype):
    plain, x = models.mlp((8, 6, 4)), torch.randn(5, 8)
    model = l0.gate(copy.deepcopy(plain).to(dtype))
    l0.gate(plain)
    assert all(each.log_alpha.dtype == torch.float32 for each in l0.gates(model).values())
    for mode in (True, False):
        found = []
        for each, inputs in ((model, x.to(dtype)), (plain, x)):
            torch.manual_seed(1)
            found.append(each.train(mode)(inputs))
        assert found[0].dtype == dtype
        torch.testing.assert_close(found[0].float(), found[1], atol=0.05, rtol=0.05)
    l0.harden(model, 20)
    assert model(x.to(dtype)).dtype == dtype


def test_training_starts_with_the_gates_that_it_is_told():
    model = models.mlp((8, 6, 4))
    l0.L0(9, temperature=0.4, init=0.8).start(model)
    for gating in l0.gates(model).values():
        assert gating.temperature == 0.4
        torch.testing.assert_close(
            gating.log_alpha.sigmoid(), torch.full_like(gating.log_alpha, 0.8)
        )


def test_what_reads_weights_reads_those_that_the_layer_computes_with():
    torch.manual_seed(0)
    model = l0.gate(models.mlp((5, 4, 2), "relu"))
    for gating in l0.gates(model).values():  # ẑ lies between 0 and 1 for most
        torch.nn.init.normal_(gating.log_alpha)
    model.eval()
    for _, layer, _ in pruning.prunable(model):
        assert torch.equal(masks.effective(layer), layer.weight)
    plain = plain_copy(model)
    torch.testing.assert_close(
        pruning.feature_importance(model), pruning.feature_importance(plain)
    )


def test_the_density_of_other_gates_is_not_asked_of_l0():
    model = l0.gate(torch.nn.Sequential(torch.nn.Linear(4, 3)))
    model(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"\['0'\] are of the kind HardConcrete"):
        pruning.density(model)

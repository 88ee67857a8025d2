import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruning
from pruning.training import Callback, TrainingError, evaluate, fit


def net(seed=0):
    torch.manual_seed(seed)
    return pruning.models.mlp((4, 8, 3), "tanh")


X, Y = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 3


def test_an_epoch_has_every_sample_once_in_a_new_order():
    seen = []
    fit(net(), X, Y, epochs=2, batch_size=16, augment=lambda x: seen.append(x) or x)
    assert [len(x) for x in seen] == [16, 16, 16, 2] * 2
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert not torch.equal(first, second)
    assert torch.equal(first[first[:, 0].argsort()], second[second[:, 0].argsort()])
    assert torch.equal(first[first[:, 0].argsort()], X[X[:, 0].argsort()])


def test_fit_is_a_plain_loop():
    model, ours = net(), net()
    history = fit(ours, X, Y, epochs=3, batch_size=16, seed=5)
    torch.manual_seed(5)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        total = 0.0
        for index in torch.randperm(50).split(16):
            loss = F.cross_entropy(model(X[index]), Y[index])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(index) / 50
    for p, q in zip(model.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)
    assert history[-1]["loss"] == pytest.approx(total, rel=1e-4)
    assert [h["epoch"] for h in history] == [1, 2, 3]


def test_same_seed_same_weights_and_the_callers_random_state_is_untouched():
    results = []
    for seed in (3, 3, 4):
        model = pruning.gate(net(), init=0.6)
        before = torch.get_rng_state()
        fit(model, X, Y, epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_hooks_come_in_order_and_the_penalty_counts():
    seen = []

    class Spy(Callback):
        def start(self, model):
            seen.append("start")
            model.extra = nn.Parameter(torch.ones(()))  # reaches the optimizer

        def penalty(self, model, progress):
            seen.append(("penalty", progress))
            return model.extra

        def after_step(self, model, progress):
            seen.append(("after_step", progress))

        def finish(self, model):
            seen.append("finish")

    model = net()
    history = fit(model, X, Y, epochs=2, batch_size=25, callbacks=[Spy(), Callback()])
    steps = list(
        itertools.chain.from_iterable(
            (("penalty", i / 4), ("after_step", i / 4)) for i in range(4)
        )
    )
    assert seen == ["start", *steps, "finish"]
    assert model.extra < 1  # the penalty's gradient is 1
    assert history[0]["penalty"] == pytest.approx(1, abs=0.01)


def test_schedule_multiplies_every_groups_rate():
    rates = []

    class Spy(Callback):
        def after_step(self, model, progress):
            rates.append([group["lr"] for group in spied[0].param_groups])

    spied = []

    def optimizer(model):
        weights, biases = (
            [p for p in model.parameters() if p.dim() > 1],
            [p for p in model.parameters() if p.dim() == 1],
        )
        spied.append(
            torch.optim.SGD([{"params": weights, "lr": 1.0}, {"params": biases, "lr": 0.5}])
        )
        return spied[0]

    fit(
        net(),
        X,
        Y,
        epochs=1,
        batch_size=25,
        optimizer=optimizer,
        schedule=lambda p: 1 - p,
        callbacks=[Spy()],
    )
    assert rates == [[1.0, 0.5], [0.5, 0.25]]


def test_a_loss_that_is_not_finite_stops_with_the_epoch_named():
    with pytest.raises(TrainingError, match="epoch 1 of 5"):
        fit(net(), X * float("nan"), Y, epochs=5)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        fit(net(), X, Y, epochs=5, loss=lambda out, y: F.cross_entropy(out, y) * float("inf"))


def test_bad_arguments():
    with pytest.raises(ValueError, match="targets: got 49 for 50 inputs"):
        fit(net(), X, Y[:49], epochs=1)
    with pytest.raises(ValueError, match="epochs: got -1, needs a whole number"):
        fit(net(), X, Y, epochs=-1)
    with pytest.raises(ValueError, match=r"epochs: got 1\.5"):
        fit(net(), X, Y, epochs=1.5)
    with pytest.raises(ValueError, match="batch_size: got 0, needs a whole number, 1 or"):
        fit(net(), X, Y, epochs=1, batch_size=0)


def test_evaluate_by_hand_and_in_any_batch_size():
    model = net().train()
    out = model(X)
    for size in (7, 50, 1000):
        found = evaluate(model, X, Y, batch_size=size)
        assert found.accuracy == (out.argmax(1) == Y).sum().item() / 50
        assert found.loss == pytest.approx(F.cross_entropy(out, Y).item(), rel=1e-5)
    assert model.training


def test_models():
    lenet = pruning.models.mlp((784, 300, 100, 10))
    assert sum(m.weight.numel() for m in lenet if isinstance(m, nn.Linear)) == 266_200
    assert sum(m.bias.numel() for m in lenet if isinstance(m, nn.Linear)) == 410
    with pytest.raises(ValueError, match="sizes: got"):
        pruning.models.mlp((4,))
    with pytest.raises(ValueError, match="activation: got 'rleu'"):
        pruning.models.mlp((4, 2), "rleu")


@pytest.mark.parametrize("budget", [894, 1000, 5_000, 50_000, 266_200])
def test_narrow_sizes_is_the_widest_that_fits(budget):
    full = (784, 300, 100, 10)
    narrow = pruning.models.narrow_sizes(full, budget)
    assert pruning.models.weight_count(narrow) <= budget
    if narrow != full:
        wider = (784, narrow[1] + 1, max(10, round((narrow[1] + 1) / 3)), 10)
        assert pruning.models.weight_count(wider) > budget
    assert pruning.models.narrow_sizes(full, 893) is None


def test_the_setting_of_denormal_numbers_is_put_back():
    def flushes():
        return (torch.tensor(1e-40) * 1).item() == 0

    model, x, y = nn.Linear(3, 2), torch.randn(8, 3), torch.randint(0, 2, (8,))
    before = flushes()
    seen = []

    def loss(outputs, targets):
        seen.append(flushes())
        return torch.nn.functional.cross_entropy(outputs, targets)

    try:
        for wanted in (False, True):
            torch.set_flush_denormal(wanted)
            pruning.training.fit(model, x, y, epochs=1, loss=loss)
            assert flushes() == wanted
            with pytest.raises(pruning.training.TrainingError):
                pruning.training.fit(model, x * torch.inf, y, epochs=1)
            assert flushes() == wanted
            model = nn.Linear(3, 2)
        assert all(seen)
    finally:
        torch.set_flush_denormal(before)


def test_evaluation_leaves_modes_and_names_wrong_targets():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Dropout(0.9), nn.BatchNorm1d(4), nn.Linear(4, 2)
    ).train()
    model[2].eval()
    x, y = torch.randn(9, 3), torch.randint(0, 2, (9,))
    found = pruning.training.evaluate(model, x, y, batch_size=4)
    assert [module.training for module in model] == [True, True, False, True]
    plain = nn.Sequential(model[0], model[2], model[3])(
        x
    )  # no dropout: evaluated in evaluation mode
    assert found.accuracy == int((plain.argmax(1) == y).sum()) / 9
    assert found.loss == pytest.approx(nn.functional.cross_entropy(plain, y).item(), rel=1e-5)
    for wrong in (2, -100):
        y[6] = wrong
        with pytest.raises(
            ValueError, match=f"targets: got class {wrong} for sample 6, needs one from 0 to 1"
        ):
            pruning.training.evaluate(model, x, y, batch_size=4)
    assert [module.training for module in model] == [True, True, False, True]
    with pytest.raises(ValueError, match="batch_size: got 0, needs a whole number, 1 or more"):
        pruning.training.evaluate(model, x, y.clamp(0, 1), batch_size=0)
    with pytest.raises(ValueError, match="targets: got 0 for 0 inputs"):
        pruning.training.evaluate(model, x[:0], y[:0])
    with pytest.raises(ValueError, match="targets: got 8 for 9 inputs"):
        pruning.training.evaluate(model, x, y[:8])
    with pytest.raises(ValueError, match=r"targets: got torch\.float32, needs the indices"):
        pruning.training.evaluate(model, x, torch.rand(9))


def test_evaluation_of_a_class_at_each_pixel_is_the_mean_over_pixels():
    model, x, y = nn.Conv2d(3, 4, 1), torch.randn(5, 3, 6, 6), torch.randint(0, 4, (5, 6, 6))
    found, out = evaluate(model, x, y, batch_size=2), model(x)
    assert found.accuracy == pytest.approx((out.argmax(1) == y).float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(out, y).item(), rel=1e-5)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("model", "targets", "said"),
    [
        (
            nn.Identity(),
            Y[:, None],
            r"targets: got shape \(50, 1\) for outputs.*needs \(50,\)",
        ),
        (nn.Linear(4, 1), torch.zeros_like(Y), r"model: gave \(50, 1\) for a batch"),
        (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), Y, r"model: gave \(50,\) for a batch"),
        (Pair(), Y, "model: gave tuple for a batch"),
        (nn.Identity(), Y > 0, r"targets: got torch\.bool, needs .* torch\.int64"),
        (nn.Identity(), Y.int(), r"targets: got torch\.int32"),
    ],
)
def test_what_is_no_classification_is_named(model, targets, said):
    with pytest.raises(ValueError, match=said):
        evaluate(model, X, targets)


def test_an_optimizer_in_place_of_a_function_is_named():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(TypeError, match="optimizer: got a SGD, needs a function"):
        fit(model, X, Y, epochs=1, optimizer=optimizer)
    with pytest.raises(TypeError, match="schedule: got a StepLR, needs a function"):
        fit(model, X, Y, epochs=1, schedule=scheduler)


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_data_that_are_no_tensor_are_named(name):
    data = {"inputs": torch.randn(3, 6), "targets": torch.tensor([0, 1, 1])}
    data[name] = {"x": data[name]}
    for train in (pruning.training.evaluate, pruning.training.fit):
        more = {"epochs": 1} if train is pruning.training.fit else {}
        with pytest.raises(TypeError, match=f"{name}: got dict, needs one tensor"):
            train(pruning.models.mlp((6, 5, 4)), **data, **more)

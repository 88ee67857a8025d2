"""Gated and masked models as a whole in pickles, in files, and in another process."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch_models import MODELS, Recurrent, mlp, steps

import pruning
from pruning.methods.sampling import gates
from pruning.networks import graph


def through_a_file(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


FORMS = {
    "gated": pruning.gate,
    "output gates": lambda model: pruning.gate(model, granularity="output"),
    "masked": lambda model: pruning.prune_by_score(model, pruning.magnitude(model), 0.5),
}


@pytest.mark.parametrize("copied", [through_a_file, through_pickle])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_saved_whole_is_the_same_and_trains_alike(name, form, copied):
    make, shape = MODELS[name]
    try:
        model, x = FORMS[form](make()), torch.randn(shape)
    except ValueError:
        assert form == "output gates"  # this model has no outputs to gate but the last
        return
    for logits in pruning.gate_parameters(model) if form != "masked" else ():
        nn.init.normal_(logits)
    steps(model, x, 1)
    twin = copied(model)
    assert type(twin) is type(make())
    assert twin.training
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert len(gates(twin)) == len(gates(model))
    for each in (model, twin):
        torch.manual_seed(1)
        steps(each, x)
    state = twin.state_dict()
    assert all(torch.equal(v, state[key]) for key, v in model.state_dict().items())
    for each in (model, twin):
        if form != "masked":
            pruning.harden(each.eval())
    assert torch.equal(model.eval()(x), twin.eval()(x))
    twin = pruning.finalize(copied(twin))
    assert list(twin.state_dict()) == list(make().state_dict())
    torch.testing.assert_close(twin(x), model(x))


def test_a_layer_shared_in_the_model_is_shared_in_the_copy():
    layer = nn.Linear(4, 4)
    twin = through_pickle(pruning.gate(nn.Sequential(layer, nn.Tanh(), layer)))
    assert twin[0] is twin[2]
    assert len(pruning.gate_parameters(twin)) == 1


def test_frozen_gates_stay_in_evaluation_mode():
    model = pruning.gate(mlp())
    gates(model)["0"].eval()
    twin = through_pickle(model)
    assert [each.training for each in gates(twin).values()] == [False, True]


def test_other_parametrizations_are_refused_with_the_way_out():
    model = mlp()
    parametrizations.weight_norm(model[0])
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    with pytest.raises(RuntimeError, match=r"'_WeightNorm'.*pruning.finalize\(model\) first"):
        pickle.dumps(model)
    pickle.dumps(pruning.finalize(model))


def test_a_fresh_process_reads_a_masked_model(tmp_path):
    model, x = mlp(), torch.randn(4, 6)
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    torch.save({"model": model, "x": x, "y": model(x).detach()}, tmp_path / "model.pt")
    read = (
        "import sys, torch; found = torch.load(sys.argv[1], weights_only=False);"
        "assert torch.equal(found['model'](found['x']), found['y'])"
    )
    subprocess.run([sys.executable, "-c", read, tmp_path / "model.pt"], check=True)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("form", ["gated", "masked"])
def test_a_recurrent_layer_is_copied_whatever_came_before(kind, form):
    model, x = Recurrent(kind), torch.randn(4, 3, 4)
    if form == "gated":
        pruning.gate(model)
    else:
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    for touch in (
        lambda: pickle.dumps(model),
        lambda: model.double().float(),
        lambda: model(x),
    ):
        model.train()
        touch()
        for copied in (copy.deepcopy(model).eval(), graph.plain_copy(model)):
            torch.testing.assert_close(copied(x), model.eval()(x))
    with pytest.warns(UserWarning, match="through which paths cannot be followed"):
        pruning.sparsity_report(model, x)
    with parametrize.cached():
        assert torch.equal(model(x), model(x))

import pytest
import torch
from torch import nn
from torch_models import MODELS

import pruning
from pruning.methods import baselines


@pytest.mark.parametrize("name", MODELS)
def test_random_deletion_reaches_every_prunable_weight(name):
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    baselines.delete_at_random(model, 0.4)
    kept = pruning.masks(model)
    total = sum(mask.numel() for mask in kept.values())
    assert sum(int(mask.sum()) for mask in kept.values()) == round(0.4 * total)
    for mask in kept.values():  # each weight with the same probability
        deviation = (0.24 / mask.numel()) ** 0.5
        assert abs(mask.float().mean().item() - 0.4) < 4 * deviation + 1 / mask.numel()
    before = model(x)
    torch.testing.assert_close(pruning.finalize(model)(x), before)


def test_random_deletion_brings_nothing_back():
    model = nn.Sequential(nn.Linear(20, 20), nn.Conv1d(20, 10, 1))
    pruning.prune_by_score(model, pruning.random_scores(model), 0.6)
    before = pruning.masks(model)
    baselines.delete_at_random(model, 0.2)
    after = pruning.masks(model)
    assert sum(int(mask.sum()) for mask in after.values()) == 120
    assert all((after[key] <= before[key]).all() for key in before)
    with pytest.raises(ValueError, match="needs at most the 120 that are left"):
        baselines.delete_at_random(model, 0.3)
    with pytest.raises(ValueError, match=r"density: got 1\.5"):
        baselines.delete_at_random(model, 1.5)

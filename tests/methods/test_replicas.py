"""Copies of a network in several processes: what is drawn at random is equal in all."""

import copy
import multiprocessing

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import pruning
from pruning.methods.gradual import Gradual
from pruning.methods.rewiring import SET, DeepR
from pruning.methods.stochgrad import StochGradAdam


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))


KINDS = {
    "gradual": lambda: Gradual(60, score=pruning.random_scores, end=0.9, updates=9),
    "set": lambda: SET(0.5, 4),
    "deepr": lambda: DeepR(0.5, lambda progress: 0.1, l1=0.5),
    "rigl": lambda: pruning.RigL(60, every=2),
}


def rewired(model, method, x):
    """Weights and masks after some steps on the mean of all samples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(10):
        optimizer.zero_grad()
        model(x).square().sum(1).mean().backward()
        optimizer.step()
        method.after_step(getattr(model, "module", model), step / 10)
    return {name.removeprefix("module."): each for name, each in model.state_dict().items()}


def rewires(rank, folder):
    """Write what a rank has before and after training on its half of the samples."""
    for kind, make in KINDS.items():
        model, method = net(), make()
        torch.manual_seed(100 + rank)  # ranks seeded apart, as data loading asks for
        method.start(model)
        torch.save(copy.deepcopy(model.state_dict()), folder / f"start-{kind}-{rank}.pt")
        x = torch.load(folder / "x.pt").chunk(2)[rank]
        found = rewired(DistributedDataParallel(model), method, x)
        torch.save(found, folder / f"{kind}-{rank}.pt")


def samples_gradients(rank, folder):
    """Write what a rank has after training, without and with a generator of its own."""
    trained = []
    for generator in (None, torch.Generator().manual_seed(7)):
        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Linear(40, 30))
        torch.manual_seed(100 + rank)
        optimizer = StochGradAdam(
            model.parameters(), lr=0.1, sampling_rate=0.5, generator=generator
        )
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(5, 40)).square().sum().backward()
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.save(trained, folder / f"stochgrad-{rank}.pt")


def replica(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    rewires(rank, folder)
    samples_gradients(rank, folder)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Reads what two processes wrote. They are forked from one that has imported torch, and
    what its optimizers import, but has not used it: a fork of this process could not train."""
    folder = tmp_path_factory.mktemp("replicas")
    torch.manual_seed(0)
    torch.save(torch.randn(12, 20), folder / "x.pt")
    multiprocessing.set_forkserver_preload(["torch._dynamo", "pruning.methods.rewiring"])
    torch.multiprocessing.start_processes(
        replica, (folder,), nprocs=2, start_method="forkserver"
    )
    return lambda name: torch.load(folder / f"{name}.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_rewired_replicas_whose_ranks_are_seeded_apart_stay_equal(kind, read):
    for name in (f"start-{kind}", kind):
        first, second = read(f"{name}-0"), read(f"{name}-1")
        assert all(torch.equal(first[key], second[key]) for key in first), name
    masks = {key: mask for key, mask in read(f"{kind}-0").items() if "keep" in key}
    start = read(f"start-{kind}-0")
    assert any(not torch.equal(mask, start[key]) for key, mask in masks.items())


def test_rigl_grows_by_the_gradient_of_all_samples_as_one_process_does(read):
    start = read("start-rigl-0")
    given = {key[0]: mask != 0 for key, mask in start.items() if "keep" in key}
    model, method = net(), pruning.RigL(60, every=2, masks=given)
    method.start(model)
    alone = rewired(model, method, read("x"))
    for key, value in read("rigl-0").items():
        assert torch.allclose(alone[key], value, atol=1e-5)


def test_replicas_of_sampled_gradients_whose_ranks_are_seeded_apart_stay_equal(read):
    for first, second in zip(read("stochgrad-0"), read("stochgrad-1"), strict=True):
        assert torch.equal(first, second)
        assert len(first.unique()) > 1000  # trained, each weight by itself

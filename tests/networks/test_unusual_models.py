"""Networks that follow no chain: what `compact` and `finalize` leave computes the same, with
whole outputs, whole inputs and single weights removed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import pruning
from pruning.networks import compact as compacting
from pruning.networks import models
from pruning.networks.masks import set_mask
from pruning.networks.prunable import output_dim, prunable


class Net(nn.Module):
    """Modules by name, and a forward pass as a function of them and the inputs."""

    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def shared():
    def run(net, x):
        x = F.relu(net.a(x))
        x = F.relu(net.first(net.b(x)))
        x = x + F.relu(net.second(net.b(x)))  # one layer, two batch norms
        return net.head(x.mean((2, 3)))

    norms = {"first": nn.BatchNorm2d(6), "second": nn.BatchNorm2d(6)}
    return Net(run, a=conv(3, 6), b=conv(6, 6), **norms, head=nn.Linear(6, 3))


def weight_norm():
    def run(net, x):
        x = F.leaky_relu(net.a(x))
        return net.head(torch.tanh(net.b(input=x)).amax((2, 3)))  # by keyword

    return Net(
        run, a=parametrizations.weight_norm(conv(3, 6)), b=conv(6, 4), head=nn.Linear(4, 2)
    )


def slopes():
    def run(net, x):
        x = net.first(net.a(x))  # one slope a channel, some of them 0
        x = net.second(net.b(x).flatten(2).transpose(1, 2))  # one a position of the sequence
        return net.head(x).sum(1)

    first, second = nn.PReLU(6), nn.PReLU(36)
    with torch.no_grad():
        first.weight[::2] = 0
        second.weight[::3] = 0
    return Net(
        run, a=conv(3, 6), first=first, b=conv(6, 5), second=second, head=nn.Linear(5, 2)
    )


def functional():
    def run(net, x):
        x = F.conv2d(F.relu(net.a(x)), net.weight, padding=1)
        x = F.conv2d(x, net.kernel, groups=5)
        return net.head(x.flatten(2).sum(-1))

    net = Net(run, a=conv(3, 6), head=nn.Linear(5, 2))
    net.weight = nn.Parameter(0.1 * torch.randn(5, 6, 3, 3))
    net.register_buffer("kernel", torch.randn(5, 1, 3, 3))
    return net


def einsum():
    def run(net, x):
        q, k, v = (layer(x).unflatten(-1, (2, 4)) for layer in (net.q, net.k, net.v))
        attention = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        return net.o(torch.einsum("bhnm,bmhd->bnhd", attention, v).flatten(2))

    return Net(run, **{name: nn.Linear(6, 8) for name in "qkv"}, o=nn.Linear(8, 4))


def nested():
    def run(net, x):
        x = F.relu(net.a(x))
        y = F.relu(net.b(x))
        return [[net.head(y.mean((2, 3)))], (net.c(x), {"again": net.c(y)})]

    return Net(run, a=conv(3, 4), b=conv(4, 4), c=conv(4, 2, 1), head=nn.Linear(4, 3))


def buffers():
    def run(net, x):
        x = torch.relu(net.a(x)) * net.scale + net.shift
        return net.b(x[:, net.order])

    net = Net(run, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    net.scale = nn.Parameter(torch.randn(8))
    net.register_buffer("shift", torch.randn(8))
    net.register_buffer("order", torch.randperm(8))
    return net


def shuffle():
    def run(net, x):
        left, right = F.relu(net.stem(x)).chunk(2, 1)
        right = F.relu(net.norm(net.depthwise(F.relu(net.a(right)))))
        x = torch.cat([left, right], 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return net.head(x.mean((2, 3)))

    return Net(
        run,
        stem=conv(3, 8),
        a=conv(4, 4, 1),
        depthwise=conv(4, 4, groups=4),
        norm=nn.BatchNorm2d(4),
        head=nn.Linear(8, 3),
    )


def squeeze_excite():
    def run(net, x):
        x = F.silu(net.norm(net.a(x)))
        squeezed = F.silu(net.squeeze(F.adaptive_avg_pool2d(x, 1)))
        x = x * torch.sigmoid(net.excite(squeezed))
        return net.head((x + net.b(x)).mean((2, 3)))

    return Net(
        run,
        a=conv(3, 8),
        norm=nn.BatchNorm2d(8),
        squeeze=conv(8, 2, 1),
        excite=conv(2, 8, 1),
        b=conv(8, 8),
        head=nn.Linear(8, 3),
    )


def unet():
    def run(net, x):
        a = F.relu(net.down(x))
        b = F.relu(net.deep(a))
        return net.out(torch.cat([a, F.relu(net.norm(net.up(b)))], 1))

    return Net(
        run,
        down=conv(3, 4),
        deep=conv(4, 8, stride=2),
        up=nn.ConvTranspose2d(8, 4, 2, stride=2),
        norm=nn.BatchNorm2d(4),
        out=conv(8, 2),
    )


def grouped_1d():
    def run(net, x):
        x = F.relu(net.norm(net.b(F.relu(net.a(x)))))
        return net.head(F.relu(net.up(F.relu(net.c(x)))).amax(-1))

    return Net(
        run,
        a=nn.Conv1d(4, 8, 3, padding=1, groups=2),
        b=nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=4),
        norm=nn.BatchNorm1d(8),
        c=nn.Conv1d(8, 6, 1),
        up=nn.ConvTranspose1d(6, 4, 4, stride=2, groups=2),
        head=nn.Linear(4, 2),
    )


def gated_linear_units():
    def run(net, x):
        x = F.glu(net.a(x), 1).flatten(1)
        return net.out(F.glu(net.b(net.head(x))))

    return Net(
        run, a=conv(3, 8), head=nn.Linear(144, 3), b=nn.Linear(3, 6), out=nn.Linear(3, 2)
    )


def padded_and_upsampled():
    def run(net, x):
        x = net.group(net.prelu(net.b(F.relu(net.a(x)))))
        return net.out(F.interpolate(x, scale_factor=2))

    return Net(
        run,
        a=conv(3, 6, padding_mode="reflect"),
        b=conv(6, 6, padding_mode="circular"),
        prelu=nn.PReLU(6),
        group=nn.GroupNorm(2, 6),
        out=conv(6, 2, 1),
    )


def pixel_shuffle():
    def run(net, x):
        x = F.pixel_shuffle(F.relu(net.a(x)), 2)
        return net.head(F.relu(net.norm(net.b(x))).flatten(1))

    return Net(
        run,
        a=conv(3, 8),
        b=conv(2, 4),
        norm=nn.BatchNorm2d(4, affine=False),
        head=nn.Linear(4 * 12 * 12, 2),
    )


def highway():
    def run(net, x):
        x = torch.tanh(net.a(x))
        for _ in range(3):
            t = torch.sigmoid(net.gate(x))
            x = t * F.relu(net.b(x)) + (1 - t) * x
        return net.out(x)

    return Net(
        run, a=nn.Linear(6, 8), b=nn.Linear(8, 8), gate=nn.Linear(8, 8), out=nn.Linear(8, 3)
    )


IMAGES = (5, 3, 6, 6)
MODELS = {
    shared: IMAGES,
    weight_norm: IMAGES,
    functional: IMAGES,
    einsum: (5, 4, 6),
    nested: IMAGES,
    buffers: (5, 6),
    shuffle: IMAGES,
    squeeze_excite: IMAGES,
    unet: IMAGES,
    grouped_1d: (5, 4, 10),
    gated_linear_units: IMAGES,
    padded_and_upsampled: IMAGES,
    pixel_shuffle: IMAGES,
    highway: (5, 6),
    slopes: IMAGES,
}
KEPT_WHOLE = {einsum, buffers}  # products of activations, reordered features: nothing is cut


def trained(model):
    """Batch norm and biases as after training, so that dead channels are constants."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0.5)
    return model.eval()


def pruned(model, what):
    for _, module, parameter in prunable(model):
        shape = getattr(module, parameter).shape
        across = {"outputs": output_dim(module), "inputs": 1 - output_dim(module)}.get(what)
        rates = [n if across in (None, d) else 1 for d, n in enumerate(shape)]
        set_mask(module, (torch.rand(rates) < 0.4).expand(shape), parameter)
    return model


def flat(outputs):
    return torch.utils._pytree.tree_leaves(outputs)


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("what", ["outputs", "inputs", "weights"])
@pytest.mark.parametrize("make", MODELS)
def test_what_is_left_computes_the_same(make, what):
    torch.manual_seed(0)
    model, x = pruned(trained(make()), what), torch.randn(MODELS[make])
    expected = flat(model(x))
    small = pruning.compact(model, torch.zeros_like(x[:1]))
    final = pruning.finalize(copy.deepcopy(model))
    for each in (small, final):
        found = flat(each(x))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    if make is not shared:  # its layer becomes two, with a batch norm written into each
        assert size(small) <= size(final)
    if what == "outputs" and make not in KEPT_WHOLE:
        assert size(small) < size(final)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        self.head = nn.Linear(8, 2)

    def forward(self, left, right):
        both = torch.cat([self.encoder(left), self.encoder(right)], 1)
        return {"distance": self.head(both), "sum": both.sum(1)}


def paths(model, x):
    """How many weights the gradient reaches on some positive and negative inputs."""
    model.zero_grad()
    sum(each.square().sum() for each in flat(model(*x))).backward()
    found = [getattr(m, p) for _, m, p in prunable(model)]
    return sum(int((w.grad * w != 0).sum()) for w in found)


@pytest.mark.parametrize("seed", range(6))
def test_two_uses_of_an_encoder_read_inputs_of_their_own(seed):
    torch.manual_seed(seed)
    model, x = Siamese().eval(), (torch.randn(50, 6), torch.randn(50, 6))
    scores = pruning.random_scores(model)
    pruning.prune_by_score(model, scores, (0.7, 0.85)[seed % 2], scope="layer")
    small = pruning.compact(model, tuple(each[:1] for each in x))
    for name, expected in model(*x).items():
        torch.testing.assert_close(small(*x)[name], expected)


def test_a_slope_of_zero_ends_no_path():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.PReLU(8, init=0.0), nn.Linear(8, 2))
    x = torch.randn(200, 4)
    assert pruning.effective_weights(model, x) == paths(model, (x,)) == 4 * 8 + 8 * 2


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (nn.Bilinear(6, 6, 3), "aten.bilinear"),
        (lambda x: x.cumsum(1), "aten.cumsum"),
        (lambda x: x.topk(3, 1).values, "aten.topk"),
        (lambda x: x.sort(1).values, "aten.sort"),
    ],
)
def test_what_has_no_rule_is_refused(operation, name):
    two = isinstance(operation, nn.Bilinear)
    model = Net(lambda net, x: operation(*[net.a(x)] * (1 + two)), a=nn.Linear(6, 6))
    with pytest.raises(TypeError, match=f"runs {name}.*, through which paths cannot"):
        pruning.compact(model, torch.zeros(1, 6))


@pytest.mark.parametrize("shift", [3, -2])
@pytest.mark.parametrize("dims", [1, (0, 1)])
def test_units_that_are_rolled_keep_their_places(shift, dims):
    def run(net, x):
        wide = F.relu(net.a(x))
        return net.head(wide.roll((shift,) * 2 if dims == (0, 1) else shift, dims))

    torch.manual_seed(0)
    model = Net(run, a=nn.Linear(5, 8), head=nn.Linear(8, 2))
    with torch.no_grad():
        pruning.prune_by_score(model, {"a": torch.arange(40.0).view(8, 5)}, 0.5)
        model.head.weight[:, [1, 5]] = 0
    x = torch.randn(6, 5)
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))


@pytest.mark.parametrize("function", [torch.log, torch.sqrt, torch.acos, lambda x: x**1.5])
def test_a_function_that_does_not_take_every_number_is_no_defect(function):
    torch.manual_seed(0)
    model = Net(
        lambda net, x: net.head(net.a(function(x)).relu()),
        a=nn.Linear(5, 8),
        head=nn.Linear(8, 2),
    )
    pruning.prune_by_score(model, pruning.magnitude(model), 0.6)
    x = 0.1 + 0.8 * torch.rand(6, 5)
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))


@pytest.mark.parametrize("rest", [None, 3])
def test_outputs_that_are_no_tensors_stay(rest):
    inner = models.mlp((5, 8, 2))
    pruning.prune_by_score(inner, pruning.magnitude(inner), 0.6)
    x = torch.rand(6, 5)
    for model in (
        Net(lambda net, x: (net.inner(x), rest), inner=inner),
        Net(lambda net, x: {"logits": net.inner(x), "aux": rest}, inner=inner),
    ):
        found, expected = pruning.compact(model, x)(x), model(x)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_of_half_precision_is_no_defect(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    model.append(nn.Linear(6 * 36, 5)).to(dtype).eval()
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    x = torch.randn(4, 3, 6, 6, dtype=dtype)
    small = pruning.compact(model, x)
    torch.testing.assert_close(small(x), model(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("uses", [1, 2, 6])
def test_a_layer_that_is_used_several_times_makes_no_network_larger(uses):
    def run(net, x):
        x = net.a(x).relu()
        for _ in range(uses):
            x = net.b(x).relu()
        return net.head(x)

    torch.manual_seed(0)
    layers = {"a": nn.Linear(20, 32), "b": nn.Linear(32, 32), "head": nn.Linear(32, 3)}
    model = Net(run, **layers).eval()
    before = sum(p.numel() for p in model.parameters())
    pruning.prune_by_score(model, pruning.magnitude(model), 0.7)
    x = torch.randn(8, 20)
    small = pruning.compact(model, x)
    assert sum(p.numel() for p in small.parameters()) <= before
    torch.testing.assert_close(small(x), model(x))


WRITTEN = {  # functions of parameters alone that the input meets later
    "a factor below a half": lambda m, x: m.b(F.linear(x, m.a.weight * 0.3).tanh()),
    "a negative factor": lambda m, x: m.b(F.linear(x, -2 * m.a.weight).tanh()),
    "a divisor": lambda m, x: m.b(F.linear(x, m.a.weight / torch.tensor(4)).tanh()),
    "signs that are whole numbers": lambda m, x: m.b(F.linear(x, m.a.weight * m.sign).tanh()),
    "a small scale": lambda m, x: m.b(m.a(x).tanh() * ((m.g + 1) * 0.1)),
    "one and a scale of 0": lambda m, x: m.b(m.a(x).tanh() * (1 + m.g)),
    "exp of 0": lambda m, x: m.b(m.a(x).tanh() * m.g.exp()),
    "a divisor that is exp of 0": lambda m, x: m.b(m.a(x).tanh() / m.g.exp()),
    "the cosine of 0": lambda m, x: m.b(m.a(x).tanh() * m.g.cos()),
    "softplus of weights": lambda m, x: m.b(F.linear(x, F.softplus(m.a.weight)).tanh()),
    "softmax of weights": lambda m, x: m.b(F.linear(x, m.a.weight.softmax(-1)).tanh()),
    "a mean of weights": lambda m, x: F.linear(
        x, m.a.weight * m.b.weight.mean(0, keepdim=True).mT
    ),
    "standardised weights": lambda m, x: m.b(
        F.linear(x, (m.a.weight - m.a.weight.mean(1, True)) / m.a.weight.std()).tanh()
    ),
    "a small branch": lambda m, x: x[:, :3] + F.linear(m.a(x).tanh(), m.b.weight * 0.1),
    "a layer that gives its bias alone": lambda m, x: m.b(
        m.a(x).tanh() * F.linear(0.0 * m.g, m.a.weight.mT, m.g.new_ones(6))[:5]
    ),
    "a layer of another's weights": lambda m, x: F.linear(
        x, F.linear(m.b.weight, m.a.weight.mT)
    ),
}


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False)
        self.g, self.function = nn.Parameter(torch.zeros(5)), function
        self.register_buffer("sign", torch.tensor([1, -1, 1, -1, 1, 1]))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize("name", WRITTEN)
def test_weights_that_are_computed_with_before_they_meet_the_input(name):
    torch.manual_seed(0)
    model, x = Written(WRITTEN[name]).double(), torch.randn(7, 6, dtype=torch.float64)
    pruning.prune_by_score(model, pruning.random_scores(model), 0.4)
    before, changing = model(x), 0
    for _, layer, _ in pruning.prunable(model):
        mask = layer.parametrizations.weight[0].keep.flatten()
        weight = layer.parametrizations.weight.original.data.view(-1)
        for place in mask.nonzero().flatten().tolist():
            value = weight[place].item()
            weight[place] += 0.7
            changing += not torch.equal(model(x), before)
            weight[place] = value
    assert pruning.effective_weights(model, x) == changing > 0
    torch.testing.assert_close(pruning.compact(model, x)(x), before)


def test_an_operation_on_weights_that_cannot_be_followed_is_refused():
    model, x = Written(lambda m, x: m.b(F.linear(x, m.a.weight.cumsum(0)))), torch.randn(3, 6)
    for use in (pruning.effective_weights, pruning.compact):
        with pytest.raises(
            TypeError, match=r"runs aten.cumsum.default on the weight 'a.weight'"
        ):
            use(model, x)
    position = Written(lambda m, x: m.b(m.a(x) + m.g.cumsum(0)))  # g is no weight
    assert pruning.effective_weights(position, x) == 45


def test_what_was_frozen_stays_frozen_and_tables_stay_tables():
    model = Written(lambda m, x: m.b(m.a(x).tanh() / (m.scale + 1e-3)) * m.g[:3].exp())
    model.register_buffer("scale", torch.arange(1.0, 6.0))
    model.a.weight.requires_grad_(False)
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    x = torch.randn(4, 6)
    before = torch.get_rng_state()
    small = pruning.compact(model, x)
    assert torch.equal(torch.get_rng_state(), before)
    trained = {name: p.requires_grad for name, p in small.named_parameters()}
    weights = {name: trained.pop(name) for name in ("a.weight", "b.weight")}
    assert weights == {"a.weight": False, "b.weight": True}
    assert list(trained.values()) == [True], "the exponential of g alone"
    chain = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    chain[0].requires_grad_(False)
    flags = {name: p.requires_grad for name, p in pruning.compact(chain).named_parameters()}
    assert list(flags.values()) == [False, False, True, True]


def test_small_outputs_are_checked_as_strictly_as_large_ones():
    exact = torch.randn(5, 3, dtype=torch.float64)
    for scale in (1e-6, 1.0, 1e6):
        outputs = (scale * exact).float()
        assert compacting._error(outputs, outputs + 1e-7 * scale, scale * exact) is None
        assert compacting._error(outputs, torch.zeros(5, 3), scale * exact) > 0.1 * scale
        assert compacting._error(outputs, outputs * (1 + 1e-3), scale * exact) is not None
    # what is left of numbers near 1 is rounded as they are
    rest = 1e-7 * torch.ones(5, 3)
    assert compacting._error(rest, 0 * rest, rest.double() + 6e-8) is None


def test_hooks_around_a_chain_need_example_inputs():
    def chain():
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()

    for place in (lambda m: m, lambda m: m[0]):
        shifted, cut = chain(), chain()
        place(shifted).register_forward_pre_hook(lambda module, args: ((args[0] - 3) * 2,))
        place(cut).register_forward_hook(lambda module, args, output: output * 2)
        for model in (shifted, cut):
            for use in (pruning.compact, pruning.feature_importance):
                with pytest.raises(TypeError, match="has forward hooks"):
                    use(model)
            x = torch.randn(4, 6)
            torch.testing.assert_close(pruning.compact(model, x)(x), model(x))
    masked = chain()
    torch.nn.utils.prune.l1_unstructured(masked[0], "weight", 0.5)
    assert pruning.compact(masked)[1].weight.shape[1] <= 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_hardware_of_emptied_layers_and_of_half_precision(dtype):
    layers = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 2)
    model = nn.Sequential(*layers).to(dtype)
    with pytest.warns(UserWarning, match="no weight is left"):
        pruning.prune_by_score(model, {"2": torch.zeros(2, 8)}, 0.99)
    report = pruning.hardware_report(model, torch.randn(1, 4, dtype=dtype), rounds=1)
    runtimes = set(report[report.network == "compact"].runtime)
    assert ("SciPy CSR" in runtimes) == (dtype is torch.float32)
    assert ("ONNX Runtime" in runtimes) == (dtype is not torch.bfloat16)


def settled(model):
    """Batch norm as after a training."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize(("tokens", "features"), [(4, 6), (6, 6), (4, 1)])
def test_batch_norm_of_tokens_is_written_into_no_features(tokens, features):
    torch.manual_seed(0)
    model = settled(
        nn.Sequential(
            nn.Linear(5, features), nn.BatchNorm1d(tokens), nn.ReLU(), nn.Linear(features, 2)
        )
    )
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    small, x = pruning.compact(model, torch.randn(3, tokens, 5)), torch.randn(7, tokens, 5)
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("alone", [False, True])
def test_an_output_may_be_one_number(alone):
    torch.manual_seed(0)

    def run(net, x):
        x = F.relu(net.a(x))
        return x.mean() if alone else (net.b(x), x.square().mean())

    model, x = Net(run, a=nn.Linear(4, 6), b=nn.Linear(6, 2)), torch.randn(5, 4)
    pruning.prune_by_score(model, {"a": torch.arange(6.0)[:, None].expand(6, 4)}, 0.5)
    torch.testing.assert_close(pruning.compact(model, torch.randn(3, 4))(x), model(x))


def test_keys_that_heads_share_are_refused_by_name():
    def run(net, x):
        q, k = (layer(x).unflatten(2, (-1, 2)).transpose(1, 2) for layer in (net.q, net.k))
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    model, x = Net(run, q=nn.Linear(8, 8), k=nn.Linear(8, 4)), torch.randn(2, 5, 8)
    for use in (pruning.compact, pruning.effective_weights):
        with pytest.raises(TypeError, match="shares keys among heads"):
            use(model, x)
    with pytest.warns(UserWarning, match="shares keys among heads"):
        assert pruning.sparsity_report(model, x).effective.isna().all()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:.*no weight is left")
def test_an_encoder_that_is_used_twice_keeps_one_batch_norm(sparsity):
    torch.manual_seed(0)
    layers = nn.Linear(4, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 8)

    def run(net, x):
        return net.head((net.encoder(x[:, 0]) - net.encoder(x[:, 1])).abs())

    model = settled(Net(run, encoder=nn.Sequential(*layers), head=nn.Linear(8, 2)))
    if sparsity:
        pruning.prune_by_score(model, pruning.magnitude(model), sparsity)
    small, x = pruning.compact(model, torch.randn(3, 2, 4)), torch.randn(7, 2, 4)
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-4)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (small, model)]
    assert sizes[0] < sizes[1] if sparsity else sizes[0] == sizes[1]
    weights = [name for name, _ in small.named_parameters() if name.endswith(".weight")]
    assert sorted(weights) == ["encoder.0.weight", "encoder.3.weight", "head.weight"]


@pytest.mark.parametrize("how", ["layer", "function", "transposed"])
def test_an_embedding_that_decodes_as_well_is_not_copied(how):
    torch.manual_seed(0)
    decode = {
        "layer": lambda net, x: net.decoder(x),
        "function": lambda net, x: F.linear(x, net.table.weight),
        "transposed": lambda net, x: x @ net.table.weight.T,
    }[how]
    model = Net(
        lambda net, x: decode(net, F.relu(net.hidden(net.table(x)))),
        table=nn.Embedding(50, 8),
        hidden=nn.Linear(8, 8),
        decoder=nn.Linear(8, 50, bias=False),
    ).eval()
    model.decoder.weight = model.table.weight
    keep = torch.ones(8, 8)
    keep[3] = 0  # of a whole neuron, so that the decoder could do with a narrower table
    set_mask(model.hidden, keep.bool())
    words = torch.randint(0, 50, (7, 3))
    small = pruning.compact(model, words[:2])
    torch.testing.assert_close(small(words), model(words), atol=1e-5, rtol=1e-4)
    count = sum(p.numel() for p in small.parameters())
    assert count <= sum(p.numel() for p in model.parameters())
    mine = {p.data_ptr() for p in small.parameters()}
    assert mine.isdisjoint(p.data_ptr() for p in model.parameters())
    # of both networks the table is stored once: 4 bytes a number, and a header
    report = pruning.hardware_report(model, words[:2], rounds=1)
    stored = report[report.runtime == "torch"].bytes
    assert (stored < 1.5 * 4 * (50 * 8 + 8 * 8)).all()


def test_a_buffer_that_is_used_as_a_weight_keeps_nothing_from_being_cut():
    torch.manual_seed(0)
    model = Net(lambda net, x: F.linear(F.relu(net.a(x)), net.fixed), a=nn.Linear(4, 6))
    model.register_buffer("fixed", torch.randn(30, 6))
    pruning.prune_by_score(model, {"a": torch.arange(6.0)[:, None].expand(6, 4)}, 0.5)
    nn.init.zeros_(model.a.bias)
    small, x = pruning.compact(model, torch.randn(3, 4)), torch.randn(5, 4)
    torch.testing.assert_close(small(x), model(x))
    assert small.a.out_features == 3


class Between(nn.Module):
    """An operation along the features, between two layers; three neurons are removed."""

    def __init__(self, operation, inputs):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.c, self.operation = nn.Linear(6, 8), nn.Linear(inputs, 2), operation
        self.a.weight.data[[0, 3, 6]] = 0

    def forward(self, x):
        return self.c(self.operation(torch.tanh(self.a(x))))


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        (lambda h: F.interpolate(h, scale_factor=1.5), 12),
        (lambda h: F.interpolate(h, size=5), 5),
        (lambda h: h.diagonal(dim1=1, dim2=2), 4),
        (lambda h: h.diagonal(dim1=-1, dim2=1), 4),
    ],
)
def test_features_that_become_others_along_their_own_axis_stay(operation, inputs):
    model, x = Between(operation, inputs), torch.randn(3, 4, 6)
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))

"""Which weights of a model can be gated, masked, scored and counted: one list for the whole package."""

from torch import nn
from torch.nn.parameter import UninitializedParameter

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def weights_of(module: nn.Module) -> list[str]:
    """The names of the prunable parameters that a module itself holds, in the order of their registration."""
    if isinstance(module, WEIGHTED):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):  # its output projection is a Linear layer of its own
        joint = module._qkv_same_embed_dim
        return ["in_proj_weight"] if joint else ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight")]
    if isinstance(module, nn.RNNCellBase):
        return ["weight_ih", "weight_hh"]
    return []


def key_of(name: str, parameter: str) -> str:
    """The key of a module's parameter: the module's name where it is "weight", else both, with a dot."""
    return name if parameter == "weight" else f"{name}.{parameter}".removeprefix(".")


def prunable(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """The prunable weights of a model in the order of its modules: (key, module, name of the parameter).

    These are the weights of Linear and (transposed) convolution layers, the input projections of
    ``nn.MultiheadAttention``, and the input and recurrent weights of LSTM, GRU and RNN layers and cells.
    Embeddings, normalisations, biases and parameters of other modules are not among them.

    The key is the module's name in ``model.named_modules()`` where the parameter is called "weight", and
    otherwise that name, a dot and the parameter's name: "layers.0", "lstm.weight_hh_l0",
    "attention.in_proj_weight"; without the dot where the module is the model itself. A module that the model
    uses in several places is listed once.

    Raises ValueError for a lazy layer that has not seen its first batch.
    """
    found = []
    for name, module in model.named_modules():
        for parameter in weights_of(module):
            key = key_of(name, parameter)
            if isinstance(module._parameters.get(parameter), UninitializedParameter):
                raise ValueError(f"model: {key!r} has no shape yet; run one batch through the model first")
            found.append((key, module, parameter))
    return found

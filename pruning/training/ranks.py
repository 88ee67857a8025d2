"""Several processes that train replicas of one model, under ``torch.distributed``.

What a method draws or measures differs from rank to rank, and replicas must stay equal. All
functions are collective calls where there are several ranks, and change nothing where there is
one.
"""

from torch import Tensor, distributed


def several() -> bool:
    """Whether there are several ranks."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def take_from_first(*tensors: Tensor) -> None:
    """Overwrite tensors, in place, by those of rank 0."""
    if several():
        for tensor in tensors:
            sent = tensor.detach().contiguous()
            distributed.broadcast(sent, src=0)
            tensor.detach().copy_(sent)


def summed(tensor: Tensor | None, like: Tensor) -> Tensor | None:
    """The sum over the ranks of a tensor shaped as `like`, which a rank may lack; None where
    all lack it."""
    if not several():
        return tensor
    # the last number counts the ranks that have one
    total = like.new_zeros(like.numel() + 1)
    if tensor is not None:
        total[:-1], total[-1] = tensor.reshape(-1), 1
    distributed.all_reduce(total)
    return total[:-1].view(like.shape) if total[-1] else None

"""Networks from stored weights, without drawing random ones first: a second for the published."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def with_weights(make: Callable[[], Net], weights: Mapping[str, Tensor]) -> Net:
    """The network that `make` builds, holding copies of the given tensors; ready to run."""
    with torch.device("meta"):
        net = make()
    net.load_state_dict({k: v.clone() for k, v in weights.items()}, assign=True)
    return net.requires_grad_(True).eval()

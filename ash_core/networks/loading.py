"""Networks from stored weights, without drawing random ones first: a second for the published."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def with_weights(make: Callable[[], Net], weights: Mapping[str, Tensor]) -> Net:
    """The network that `make` builds, holding the given tensors themselves; ready to run."""
    with torch.device("meta"):
        net = make()
    net.load_state_dict(dict(weights), assign=True)
    return net.requires_grad_(True).eval()

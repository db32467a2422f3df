"""All weights of a network as one vector: a step is then a handful of operations, not hundreds."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

ALIGNMENT = 64
"""Each parameter begins at a multiple of so many numbers: convolutions on a GPU read 16 bytes at
once, and fail at other addresses."""


class Flat:
    """Parameters that live in one vector, and their gradients in another.

    The parameters become views of the vector, in the memory order that they had (channels last
    stays); what lies between them stays zero. Gradients are added up in place: zero them with
    `grad.zero_()`, never with None.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        self.named = list(named)
        self._starts: dict[str, int] = {}
        size = 0
        for name, parameter in self.named:
            self._starts[name] = size
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        device = self.named[0][1].device
        self.values: Float[Tensor, "n"] = torch.zeros(size, device=device)
        self.grad: Float[Tensor, "n"] = torch.zeros(size, device=device)
        self.values.grad = self.grad
        for name, parameter in self.named:
            assert parameter.dtype == torch.float32, name
            view = self.view(self.values, name)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = self.view(self.grad, name)
            parameter.requires_grad_(True)

    def view(self, vector: Float[Tensor, "n"], name: str) -> Tensor:
        """A parameter's part of a vector such as `values`, shaped and ordered as the parameter."""
        parameter, start = dict(self.named)[name], self._starts[name]
        part = vector[start : start + parameter.numel()]
        order = sorted(range(parameter.ndim), key=lambda d: -parameter.stride(d))
        sizes = [parameter.shape[dim] for dim in order]
        back = [order.index(dim) for dim in range(parameter.ndim)]
        return part.view(sizes).permute(back) if parameter.ndim else part.view(())

    def named_parts(self, vector: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """A vector such as `values` by the parameters' names."""
        return {name: self.view(vector, name) for name, _ in self.named}

    def fill(self, vector: Float[Tensor, "n"], parts: dict[str, Tensor]) -> None:
        """The reverse of `named_parts`."""
        for name, _ in self.named:
            self.view(vector, name).copy_(parts[name])

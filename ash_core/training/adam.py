"""Adam over vectors of weights by torch's fused kernel, without torch.optim.Adam.

That class imports torch's compiler when it is made, which nothing here uses: 1.4 s of every start.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam

from ash_core.training.flat import Flat


@dataclass(frozen=True)
class AdamSettings:
    """Decays of the two moments, and the guard against division by zero."""

    betas: tuple[float, float]
    epsilon: float


class FlatAdam:
    """Adam of one flat vector. Its numbers have fixed places, for captured steps on a GPU."""

    exp_avg: Float[Tensor, "n"]
    """Running mean of gradients."""
    exp_avg_sq: Float[Tensor, "n"]
    """Running mean of squared gradients."""
    step: Float[Tensor, ""]
    """Number of steps done, those of failed ones left out."""

    def __init__(self, flat: Flat, settings: AdamSettings, failed: Float[Tensor, ""]) -> None:
        """failed: other than zero where a step must leave everything as it is."""
        self._flat, self._settings, self._failed = flat, settings, failed
        self.exp_avg, self.exp_avg_sq = (torch.zeros_like(flat.values) for _ in range(2))
        self.step = torch.zeros((), device=flat.values.device)
        self._on_gpu = flat.values.is_cuda
        self._rate: float | Tensor = torch.zeros_like(self.step) if self._on_gpu else 0.0

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        if isinstance(self._rate, Tensor):
            self._rate.fill_(rate)
        else:
            self._rate = rate

    @torch.no_grad()
    def update(self) -> None:
        """Move the weights by their gradients, unless the step failed."""
        beta1, beta2 = self._settings.betas
        adam(
            [self._flat.values],
            [self._flat.grad],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.step],
            fused=True,
            capturable=self._on_gpu,
            found_inf=self._failed,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=self._rate,
            weight_decay=0.0,
            eps=self._settings.epsilon,
            maximize=False,
        )

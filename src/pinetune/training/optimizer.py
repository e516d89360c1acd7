"""AdamW over the trainable parameters, with what a resume needs: everything as named tensors.

Parameters of less than float32 get a float32 master copy: at a rate of 1e-5 an update is smaller than one step of bfloat16, and the
model would not move.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Optimizer:
    """Clips and applies the gradients that lie in `.grad` of the trainable parameters of `model`."""

    def __init__(
        self, model: nn.Module, *, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.0, max_grad_norm: float = 1.0
    ) -> None:
        self.max_grad_norm = max_grad_norm
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {name: p if p.dtype == torch.float32 else p.detach().float() for name, p in self.parameters.items()}
        self.adamw = torch.optim.AdamW(self.masters.values(), lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)
        self.num_updates = 0

    def zero(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def clip(self) -> float:
        """Scale gradients down to the largest allowed norm; return the norm before, which may be non-finite."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        torch.nn.utils.clip_grads_with_norm_(list(self.parameters.values()), self.max_grad_norm, norm)
        return float(norm)

    def update(self, rate: float) -> None:
        """Apply the gradients at learning rate `rate` and drop them."""
        for group in self.adamw.param_groups:
            group["lr"] = rate
        for name, master in self.masters.items():
            parameter = self.parameters[name]
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self.adamw.step()
        for name, master in self.masters.items():
            if master is not self.parameters[name]:
                self.parameters[name].data.copy_(master)
                master.grad = None
        self.num_updates += 1
        self.zero()

    def weights(self) -> dict[str, Tensor]:
        return {name: master.detach() for name, master in self.masters.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raises KeyError when the names are not those of this model's trainable parameters."""
        if set(weights) != set(self.masters):
            raise KeyError(sorted(set(weights) ^ set(self.masters))[0])
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(weights[name])
                if master is not self.parameters[name]:
                    self.parameters[name].copy_(master)

    def moments(self) -> dict[str, Tensor]:
        """AdamW's state, named `<moment>/<parameter>`."""
        return {
            f"{moment}/{name}": value for name, master in self.masters.items() for moment, value in self.adamw.state.get(master, {}).items()
        }

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        self.adamw.state.clear()
        for key, value in moments.items():
            moment, _, name = key.partition("/")
            master = self.masters[name]
            # a copy in the parameter's layout: the fused kernel walks both side by side
            target = value.clone() if moment == "step" else torch.empty_like(master).copy_(value)
            self.adamw.state[master][moment] = target

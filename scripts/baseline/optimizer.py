"""The optimiser of `windtunnel/optimizers.py` in PyTorch: clipping, Muon on hidden kernels, Nesterov Adam on the rest.

All tensors of a kind are updated in one call (`_foreach`), and matrices of one shape in one batched product.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315
CLIP, ADAM_RATE = 1.0, 0.25
MOMENTUM, B1, B2, EPSILON = 0.95, 0.9, 0.999, 1e-8


class Muon:
    """`step` takes the gradients of `parameters` and the rate, as a tensor so that compiled code accepts any rate."""

    def __init__(self, model: Any):
        named, hidden = dict(model.named_parameters()), model.hidden_names()
        self.kernels = [named[name] for name in hidden]
        self.others = [parameter for name, parameter in named.items() if name not in hidden]
        self.parameters = self.kernels + self.others
        self.momentum, self.first, self.second = (
            [torch.zeros_like(p) for p in group] for group in (self.kernels, self.others, self.others)
        )
        self.count = torch.zeros(())

    def initialise(self) -> None:
        for tensor in (*self.momentum, *self.first, *self.second, self.count):
            tensor.zero_()

    @torch.no_grad()
    def step(self, gradients: list[Tensor], rate: Tensor) -> None:
        self.count += 1
        n = len(self.kernels)
        gradients = clipped(gradients)
        self._muon(gradients[:n], rate)
        self._adam(gradients[n:], rate * ADAM_RATE)

    def _muon(self, gradients: list[Tensor], rate: Tensor) -> None:
        orthogonalised = orthogonal(self._nesterov(self.momentum, gradients, MOMENTUM))
        scale = [math.sqrt(max(1.0, p.shape[0] / p.shape[1])) for p in self.kernels]
        orthogonalised = torch._foreach_mul(orthogonalised, scale)
        torch._foreach_mul_(orthogonalised, -rate)
        torch._foreach_add_(self.kernels, orthogonalised)

    def _adam(self, gradients: list[Tensor], rate: Tensor) -> None:
        step = self._nesterov(self.first, gradients, B1)
        torch._foreach_mul_(self.second, B2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - B2)
        size = torch._foreach_mul(self.second, 1 / (1 - B2**self.count))
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, EPSILON)
        torch._foreach_div_(step, size)
        torch._foreach_mul_(step, -rate)
        torch._foreach_add_(self.others, step)

    def _nesterov(self, momentum: list[Tensor], gradients: list[Tensor], beta: float) -> list[Tensor]:
        """β m / (1 − β^{n+1}) + (1 − β) g / (1 − β^n), after m ← β m + (1 − β) g."""
        torch._foreach_mul_(momentum, beta)
        torch._foreach_add_(momentum, gradients, alpha=1 - beta)
        ahead = torch._foreach_mul(momentum, beta / (1 - beta ** (self.count + 1)))
        torch._foreach_add_(ahead, torch._foreach_mul(gradients, (1 - beta) / (1 - beta**self.count)))
        return list(ahead)


class AdamW:
    """PyTorch's own AdamW, fused into one kernel."""

    def __init__(self, model: Any):
        self.parameters = list(model.parameters())
        self.rate = torch.zeros(())
        self.inner = torch.optim.AdamW(self.parameters, lr=self.rate, weight_decay=0.0, fused=True)

    def initialise(self) -> None:
        for state in self.inner.state.values():
            for tensor in state.values():
                tensor.zero_()

    @torch.no_grad()
    def step(self, gradients: list[Tensor], rate: Tensor) -> None:
        self.rate.copy_(rate)
        for parameter, gradient in zip(self.parameters, clipped(gradients), strict=True):
            parameter.grad = gradient
        self.inner.step()


def clipped(gradients: list[Tensor]) -> list[Tensor]:
    """The gradients, scaled to a global norm of at most CLIP."""
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return list(torch._foreach_mul(gradients, torch.clamp(CLIP / total, max=1.0)))


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Five Newton–Schulz iterations on the wide orientation of each matrix, for all matrices of one shape at once."""
    flat = [m if m.shape[0] <= m.shape[1] else m.T for m in matrices]
    same = defaultdict(list)
    for index, matrix in enumerate(flat):
        same[matrix.shape].append(index)
    a, b, c = COEFFICIENTS
    for indices in same.values():
        x = torch.stack([flat[i] for i in indices])
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPSILON)
        for _ in range(5):
            xx = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(xx, xx, xx, beta=b, alpha=c), x, beta=a)
        for i, matrix in zip(indices, x.unbind(), strict=True):
            flat[i] = matrix
    return [f if m.shape[0] <= m.shape[1] else f.T for f, m in zip(flat, matrices, strict=True)]

"""Training on `bijection` in PyTorch: data, loss and steps. `python -m baseline.training STEPS V LAYERS HEADS WIDTH`.

Data are drawn for CHUNK steps at once, in a few vectorised calls, so that drawing costs a step almost nothing.
"""

import math
import sys
import time

import torch
import torch.nn.functional as F
from baseline.optimizer import Muon
from baseline.transformer import Transformer
from torch import Tensor

CHUNK = 128


def sample(batch: int, symbols: int, generator: torch.Generator) -> Tensor:
    """[B, 2V − 1]: x₁ π(x₁) x₂ π(x₂) … x_V, keys without replacement, π uniform."""
    keys, bijection = torch.rand(2, batch, symbols, generator=generator).argsort(-1).unbind()
    return torch.stack([keys, bijection.gather(1, keys) + symbols], dim=-1).view(batch, -1)[:, :-1]


def exact(tokens: Tensor, symbols: int) -> Tensor:
    """[B, P, V]: the exact predictive, uniform over the values not yet used."""
    used = F.one_hot(tokens[:, 1::2] - symbols, symbols).cumsum(1)
    free = torch.cat([torch.ones_like(used[:, :1]), 1 - used], dim=1)
    return free / free.sum(-1, keepdim=True)


class Training:
    """A model, its optimiser and a schedule; `compiled` or eager. `advance(n)` takes n steps."""

    def __init__(
        self, symbols: int, layers: int, heads: int, width: int, steps: int, batch: int = 64, seed: int = 0,
        compiled: bool = False, learning_rate: float = 0.05, adam_rate: float = 0.25, clip: float = 1.0,
    ):  # fmt: skip
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.symbols, self.batch, self.steps, self.done = symbols, batch, steps, 0
        self.model = Transformer(2 * symbols, symbols, 2 * symbols - 1, layers, heads, width, 4 * width)
        self.optimizer = Muon(self.model, self.model.hidden_names(), learning_rate, adam_rate, clip)
        self.loss, self.step = self._loss, self.optimizer.step
        if compiled:
            self.loss, self.step = torch.compile(self._loss), torch.compile(self.optimizer.step)

    def _loss(self, tokens: Tensor, p: Tensor) -> Tensor:
        """Cross-entropy to the exact predictive, in nats, a scored position."""
        return -(p * F.log_softmax(self.model(tokens), -1)).sum() / (p.shape[0] * p.shape[1])

    def schedule(self, step: int) -> float:
        """Up to 1 over the first twentieth, then along a cosine to 0."""
        warmup = max(1, self.steps // 20)
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (self.steps - warmup))))

    def advance(self, count: int) -> Tensor:
        """The losses."""
        losses = []
        for first in range(0, count, CHUNK):
            size = min(CHUNK, count - first)
            tokens = sample(size * self.batch, self.symbols, self.generator)
            rates = torch.tensor([self.schedule(self.done + i) for i in range(size)])
            parts = zip(tokens.split(self.batch), exact(tokens, self.symbols).split(self.batch), rates, strict=True)
            for one, p, rate in parts:
                loss = self.loss(one, p)
                self.step(torch.autograd.grad(loss, self.optimizer.parameters), rate)
                losses.append(loss.detach())
            self.done += size
        return torch.stack(losses)


def main() -> None:
    """A process of its own: threads, seconds until it could start, seconds of training."""
    kind, threads, steps, symbols, layers, heads, width = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    began = time.perf_counter()
    Training(symbols, layers, heads, width, steps, compiled=kind == "compiled").advance(steps)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()

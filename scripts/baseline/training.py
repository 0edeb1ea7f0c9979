"""Training on `bijection` in PyTorch: data, loss and steps. Run as a program, it is a worker of `bench/workers.py`.

Data are drawn for CHUNK steps at once, in a few vectorised calls, so that drawing costs almost nothing per step. Code
is compiled only once, because later studies reuse the tensors of the first.
"""

import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from baseline.optimizer import AdamW, Muon
from baseline.transformer import Transformer

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
    """A model, its optimiser and a schedule of `steps`; `compiled` or eager. `advance(n)` takes n steps."""

    def __init__(
        self, symbols: int, layers: int, heads: int, width: int, batch: int, steps: int,
        optimizer: str = "muon", compiled: bool = False,
    ):  # fmt: skip
        self.symbols, self.batch, self.steps = symbols, batch, steps
        self.model = Transformer(2 * symbols, symbols, 2 * symbols - 1, layers, heads, width, 4 * width)
        self.optimizer = (AdamW if optimizer == "adamw" else Muon)(self.model)
        self.loss, self.step = self._loss, self.optimizer.step
        if compiled:
            self.loss, self.step = torch.compile(self._loss), torch.compile(self.optimizer.step)
        self.restart(0, 0.05)

    def restart(self, seed: int, learning_rate: float) -> None:
        """Begin another study in the same tensors."""
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.done, self.learning_rate = 0, learning_rate
        self.model.initialise()
        self.optimizer.initialise()

    def _loss(self, tokens: Tensor, p: Tensor) -> Tensor:
        """Cross-entropy to the exact predictive, in nats per scored position."""
        return -(p * F.log_softmax(self.model(tokens), -1)).sum() / (p.shape[0] * p.shape[1])

    def rate(self, step: int) -> float:
        """Linear warm-up over the first twentieth of the steps, then a cosine to 0."""
        warmup = max(1, self.steps // 20)
        if step < warmup:
            return self.learning_rate * step / warmup
        share = min(1.0, (step - warmup) / (self.steps - warmup))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def advance(self, count: int) -> Tensor:
        """Take `count` steps; return their losses."""
        losses = []
        for first in range(0, count, CHUNK):
            size = min(CHUNK, count - first)
            tokens = sample(size * self.batch, self.symbols, self.generator)
            rates = torch.tensor([self.rate(self.done + i) for i in range(size)])
            parts = zip(tokens.split(self.batch), exact(tokens, self.symbols).split(self.batch), rates, strict=True)
            for batch, p, rate in parts:
                loss = self.loss(batch, p)
                self.step(torch.autograd.grad(loss, self.optimizer.parameters), rate)
                losses.append(loss.detach())
            self.done += size
        return torch.stack(losses)


def main() -> None:
    """For every line on stdin, take as many steps of a new study as it says."""
    kind, optimizer, *numbers = sys.argv[1:]
    threads, symbols, layers, heads, width, batch = map(int, numbers)
    torch.set_num_threads(threads)
    training = Training(symbols, layers, heads, width, batch, 1000, optimizer, kind == "compiled")
    training.advance(1)
    print("ready", flush=True)
    for study, line in enumerate(sys.stdin):
        training.restart(study, (0.02, 0.035, 0.05)[study % 3])
        training.advance(int(line))
        print(int(line), flush=True)


if __name__ == "__main__":
    main()

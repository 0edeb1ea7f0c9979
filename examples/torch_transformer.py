"""A causal transformer in plain PyTorch, trained on a problem of windtunnel and judged against its exact posterior.

    python examples/torch_transformer.py tunnel=die evaluate.reach=8 --steps 500 --seeds 3

What is not about the model is in `main`: `windtunnel.problem` poses the problem, `batches` are training data with exact
targets, `judge` takes a function from inputs to logits and leaves a record beside those of native studies. Optimiser,
schedule and initialisation are those of `windtunnel run position=uniform train.optimizer=adamw`, and batch by batch the
data are too: the same model in another framework, which has to come out the same.
"""

import argparse
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import windtunnel

WARMUP, CLIP = 0.05, 1.0  # share of the steps; global norm of the gradient


class Block(nn.Module):
    """x ← x + attention(norm x);  x ← x + mlp(norm x). Nothing tells where a token is: order does not matter here."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        normed = self.norm_attention(x)
        q, k, v = (
            linear(normed).view(batch, length, self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(context.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))


class Transformer(nn.Module):
    """[B, T] tokens, or [B, T, F] features, to [B, P, V] logits of the outcomes that are predicted at `tokens`."""

    def __init__(self, vocabulary: int, features: int, outcomes: int, layers=1, heads=2, width=64, hidden=128):
        super().__init__()
        self.embedding = nn.Linear(features, width) if features else nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-6), nn.Linear(width, outcomes)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor, tokens: Tensor) -> Tensor:
        x = self.embedding(inputs)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, tokens]))


def train(model: nn.Module, batches, steps: int, learning_rate: float) -> None:
    """Cross-entropy to the exact predictive: as to the outcomes that were drawn, without the noise of the draw."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    warmup = max(1, int(WARMUP * steps))

    def share(step: int) -> float:
        """Of the rate: up along a line, then down to zero along a cosine."""
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    for _, batch in zip(range(steps), batches, strict=False):
        log_q = model(torch.tensor(batch.inputs), torch.tensor(batch.tokens)).log_softmax(-1)
        target, weight = torch.tensor(np.exp(batch.log_exact)), torch.tensor(batch.weight)
        loss = -((target * log_q).sum(-1) * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()


def main(words: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", nargs="+", help="as `windtunnel run` takes it")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--name", default="torch")
    parser.add_argument("--runs", default="runs")
    given = parser.parse_args(words)

    torch.set_num_threads(1)  # so small a model gains nothing from more, and loses where cores are shared
    problem = windtunnel.problem(*given.problem)
    verdicts = []
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        model = Transformer(problem.vocabulary, problem.features, problem.outcomes)
        train(model, problem.batches(seed), given.steps, given.learning_rate)

        @torch.no_grad()
        def logits(inputs: np.ndarray, tokens: np.ndarray, model: nn.Module = model) -> np.ndarray:
            return model(torch.tensor(inputs), torch.tensor(tokens)).numpy()

        verdict = problem.judge(logits, given.name, logits=True, seed=seed, runs=given.runs)
        print(f"seed {seed}: KL {verdict['kl_bits']:.2g} bits, {verdict['verdict']}")
        verdicts.append(verdict)
    return verdicts


if __name__ == "__main__":
    main()

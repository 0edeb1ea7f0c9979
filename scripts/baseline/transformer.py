"""The transformer of `windtunnel/models/transformer.py` with learned positions, in PyTorch, written for speed.

Weights are [out, in], as usual in PyTorch; `load` takes the parameters of the JAX model. float32 throughout.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """x ← x + attention(norm x);  x ← x + mlp(norm x). The last layer is computed only at the scored tokens."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = (nn.Parameter(torch.ones(width)) for _ in range(2))
        self.query, self.key, self.value, self.output = (kernel(width, width) for _ in range(4))
        self.up, self.up_bias = kernel(width, hidden), nn.Parameter(torch.zeros(hidden))
        self.down, self.down_bias = kernel(hidden, width), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, read: slice | None) -> Tensor:
        (batch, length, width), x_norm = x.shape, norm(x, self.norm_attention)

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        if read is None:
            q, k, v = (heads(y) for y in F.linear(x_norm, torch.cat([self.query, self.key, self.value])).chunk(3, -1))
            context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v = (heads(y) for y in F.linear(x_norm, torch.cat([self.key, self.value])).chunk(2, -1))
            x, q = x[:, read], heads(F.linear(x_norm[:, read], self.query))
            at = torch.arange(length)
            context = F.scaled_dot_product_attention(q, k, v, at[None] <= at[read][:, None])
        x = x + F.linear(context.transpose(1, 2).reshape(batch, -1, width), self.output)
        up = F.gelu(F.linear(norm(x, self.norm_mlp), self.up, self.up_bias), approximate="tanh")
        return x + F.linear(up, self.down, self.down_bias)


class Transformer(nn.Module):
    """[B, T] tokens to [B, P, V] logits at tokens 0, 2, 4, …, the scored tokens of `bijection`."""

    def __init__(self, vocabulary: int, outcomes: int, length: int, layers: int, heads: int, width: int, hidden: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocabulary, width))
        self.position = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.Parameter(torch.ones(width))
        self.head, self.head_bias = kernel(width, outcomes), nn.Parameter(torch.zeros(outcomes))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw parameters from the same distribution as the JAX model's."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(0.0 if "bias" in name else 1.0)
            else:
                parameter.normal_(std=0.02 if name == "position" else parameter.shape[1] ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.embedding) + self.position
        for index, layer in enumerate(self.layers):
            x = layer(x, slice(0, None, 2) if index == len(self.layers) - 1 else None)
        return F.linear(norm(x, self.norm), self.head, self.head_bias)

    def hidden_names(self) -> list[str]:
        """The kernels of linear maps inside layers, which Muon updates."""
        return [name for name, p in self.named_parameters() if name.startswith("layers") and p.ndim == 2]

    def load(self, params: Any) -> None:
        """Take the parameters of the JAX model, nested dicts of arrays."""
        flat = converted(params)
        assert flat.keys() == dict(self.named_parameters()).keys()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(flat[name])


def kernel(fan_in: int, fan_out: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(fan_out, fan_in))


def norm(x: Tensor, scale: Tensor) -> Tensor:
    return F.rms_norm(x, scale.shape, scale, 1e-6)


def converted(params: Any) -> dict[str, Tensor]:
    """A tree of the JAX model (parameters, gradients, updates) under the names of this one; kernels are transposed."""

    def tensor(leaf: Any) -> Tensor:
        return torch.from_numpy(np.array(leaf, np.float32))

    flat = {
        "embedding": tensor(params["embedding"]["embedding"]),
        "position": tensor(params["layers"]["0"]["attention"]["learned"]["table"]),
        "norm": tensor(params["norm"]["scale"]),
        "head": tensor(params["head"]["kernel"]).T,
        "head_bias": tensor(params["head"]["bias"]),
    }
    for index, layer in params["layers"].items():
        for name in ("norm_attention", "norm_mlp"):
            flat[f"layers.{index}.{name}"] = tensor(layer[name]["scale"])
        for name in ("query", "key", "value", "output"):
            flat[f"layers.{index}.{name}"] = tensor(layer["attention"][name]["kernel"]).T
        for name in ("up", "down"):
            flat[f"layers.{index}.{name}"] = tensor(layer[name]["kernel"]).T
            flat[f"layers.{index}.{name}_bias"] = tensor(layer[name]["bias"])
    return flat

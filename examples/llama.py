"""A Llama of random initialisation (`transformers`, nothing is downloaded) on a problem in a folder.

    windtunnel export tunnel=die evaluate.reach=8 train=1000 to=die
    python examples/llama.py die
    windtunnel judge die die/predictions-0.npz name=llama

It knows of windtunnel only the files: `problem.json` says what is in them. Its vocabulary is that of the problem, with
a start that is no outcome: what it predicts are the log-probabilities of the outcomes' tokens, and the probability of
anything else.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.optimization import get_cosine_schedule_with_warmup


def llama(vocabulary: int, length: int) -> LlamaForCausalLM:
    """Small: a layer of two heads, about as many parameters as the default study has."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=length,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def log_probabilities(model: LlamaForCausalLM, inputs: np.ndarray, tokens: np.ndarray) -> Tensor:
    """[B, P, vocabulary]: of what comes after each of these tokens, over all that the model could write."""
    return model(torch.tensor(inputs, dtype=torch.long)).logits[:, torch.tensor(tokens)].log_softmax(-1)


def train(model: LlamaForCausalLM, data: dict[str, np.ndarray], outcome_tokens: list[int], steps: int, seed: int):
    """Cross-entropy to the exact predictive of the outcomes; the batches in an order of the seed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    batches = len(data["inputs"])
    order = np.concatenate([np.random.default_rng([seed, i]).permutation(batches) for i in range(-(-steps // batches))])
    for number in order[:steps]:
        log_q = log_probabilities(model, data["inputs"][number], data["tokens"])[..., outcome_tokens]
        target, weight = torch.tensor(np.exp(data["log_exact"][number])), torch.tensor(data["weight"][number])
        loss = -((target * log_q).sum(-1) * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def predictions(model: LlamaForCausalLM, asked: dict[str, np.ndarray], outcome_tokens: list[int]) -> dict:
    log_q = log_probabilities(model, asked["inputs"], asked["tokens"]).double()
    of_outcomes = log_q[..., outcome_tokens]
    other = 1 - of_outcomes.exp().sum(-1)
    return {"log_q": of_outcomes.numpy(), "other_mass": other.clamp(0, 1).numpy()}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `windtunnel export … train=N` wrote; predictions go there too")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args(words)
    torch.set_num_threads(1)  # so small a model gains nothing from more, and loses where cores are shared

    problem = json.loads((given.folder / "problem.json").read_text())
    if problem["outcome_tokens"] is None:
        parser.error(f"{given.folder}: a causal language model needs a problem of tokens that shows its outcomes")
    data, asked = (dict(np.load(given.folder / f"{name}.npz")) for name in ("train", "evaluation"))
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        model = llama(problem["vocabulary"], asked["inputs"].shape[1])
        train(model, data, problem["outcome_tokens"], given.steps, seed)
        answer = predictions(model, asked, problem["outcome_tokens"])
        np.savez(given.folder / f"predictions-{seed}.npz", id=problem["id"], **answer)


if __name__ == "__main__":
    main()

"""Beliefs: do residual states hold the exact belief over a hidden state, and does a state that is put there force what
follows?

    read out: b̂_t = W r_t + c, fitted (ridge) on half of the sequences to the belief b_t = P(z_t | seen), and on the
              other half R² = 1 − Σ|b − b̂|² / Σ|b − b̄|²; nulls: an untrained model, and beliefs of other sequences;
    forced:   the residual state r at the last observation becomes the centroid of a state j, Σ b_t(j) r_t / Σ b_t(j);
              KL of the exact counterfactual P(outcome | do z = j) to the prediction, before and after, mean over j.

A centroid holds the mean belief of its state, not certainty. `linear` is the KL of a model whose predictions are those
of exactly that belief: nothing that reads beliefs linearly can come nearer. Nulls of the forced states: the centroid of
another state (`other`), and a shift from the mean as long as the centroid's in a random direction (`random`).

In shapes, S is the hidden states, J the one that is forced.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.config import Study
from windtunnel.information import kl_bits
from windtunnel.instruments.base import Build, Json, Subject, fresh, sequences
from windtunnel.models.tap import Collect, Tap
from windtunnel.tunnels import Tunnel

COUNT = 128  # sequences
POINTS = 1000  # beliefs that are kept for a picture, where three states are hidden
RIDGE = 1e-4  # of the mean square of a feature


def refusal(subject: Subject) -> str | None:
    tunnel = subject.study.tunnel
    return f"{tunnel.name} hides no state" if type(tunnel).log_given is Tunnel.log_given else None


def measure(subject: Subject) -> Json:
    """`layers`: by depth, R² of the read-out beside its nulls, and KL (bits) to the counterfactual `before` a state is
    forced, `after`, and after its nulls. `linear`: see above. `simplex`: beliefs of three states, exact and as decoded
    from the best layer.
    """
    study = subject.study
    belief_BPS, log_given_BSV, states = (
        jax.tree.map(np.asarray, part) for part in held(study, subject.params, COUNT, subject.model)
    )
    null = fresh(study) if subject.null is None else subject.null
    untrained = {depth: np.asarray(r) for depth, r in held(study, null, COUNT, subject.model)[2].items()}
    half = COUNT // 2
    layers, decoded = [], {}
    for depth, state_BPD in sorted(states.items()):
        decoded[depth], r2 = read_out(state_BPD, belief_BPS)
        nulls = {"untrained": read_out(untrained[depth], belief_BPS)[1],
                 "shuffled": read_out(state_BPD, np.roll(belief_BPS, 1, axis=0))[1]}  # fmt: skip
        layers.append({"depth": depth, "r2": r2, **nulls, **forced(subject, depth, state_BPD, belief_BPS)})
    best = max(layers, key=lambda layer: layer["r2"])
    mean_JS = centroids(belief_BPS[:half], belief_BPS[:half])
    with np.errstate(divide="ignore"):
        linear_BJV = np.log(np.einsum("js,bsv->bjv", mean_JS, np.exp(log_given_BSV.astype(np.float64))))
    record: Json = {
        "states": belief_BPS.shape[-1],
        "layers": layers,
        "best": best["depth"],
        "linear": float(kl_bits(log_given_BSV, linear_BJV).mean()),
    }
    if belief_BPS.shape[-1] == 3:
        exact, other = (of[half:].reshape(-1, 3)[:POINTS].round(4) for of in (belief_BPS, decoded[best["depth"]]))
        record["simplex"] = {"exact": exact.tolist(), "decoded": other.tolist()}
    return record


def lines(record: Json) -> list[str]:
    best = next(layer for layer in record["layers"] if layer["depth"] == record["best"])
    return [
        f"the belief over {record['states']} states is read from layer {best['depth']} with R² {best['r2']:.4f} "
        f"(untrained {best['untrained']:.3f}, beliefs of other sequences {best['shuffled']:.3f})",
        *(
            f"layer {layer['depth']}, a state forced: KL to P(outcome | do z) {layer['before']:.3g} → "
            f"{layer['after']:.3g} bits (another state's {layer['other']:.3g}, random {layer['random']:.3g}; linear in "
            f"that belief {record['linear']:.3g})"
            for layer in record["layers"]
        ),
    ]


def headline(record: Json) -> dict[str, float | None]:
    best = next(layer for layer in record["layers"] if layer["depth"] == record["best"])
    return {name: best[name] for name in ("r2", "untrained", "before", "after", "random")}


def read_out(state_BPD: np.ndarray, belief_BPS: np.ndarray) -> tuple[np.ndarray, float]:
    """The belief [B, P, S] as it is read from the states, and R² on the half that was not fitted."""
    half = len(state_BPD) // 2
    x_BPD = np.asarray(state_BPD, np.float64) - state_BPD[:half].mean((0, 1))
    mean_S = belief_BPS[:half].mean((0, 1))
    x, y = x_BPD[:half].reshape(-1, x_BPD.shape[-1]), (belief_BPS[:half] - mean_S).reshape(-1, belief_BPS.shape[-1])
    gram = x.T @ x
    ridged = gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.lstsq(ridged, x.T @ y, rcond=None)[0]  # states that never change have weights of zero
    decoded_BPS = mean_S + x_BPD @ weights
    other = belief_BPS[half:]
    return decoded_BPS, float(1 - np.sum((other - decoded_BPS[half:]) ** 2) / np.sum((other - other.mean((0, 1))) ** 2))


def centroids(of_BPD: np.ndarray, belief_BPS: np.ndarray) -> np.ndarray:
    """[S, D]: the mean for each state, weighted by the belief in it."""
    return np.einsum("bpd,bps->sd", of_BPD, belief_BPS) / belief_BPS.sum((0, 1))[:, None]


def forced(subject: Subject, depth: int, state_BPD: np.ndarray, belief_BPS: np.ndarray) -> Json:
    """KL (bits) to the counterfactual, before and after the residual state at this depth is replaced."""
    half = len(state_BPD) // 2
    centre_JD, mean_D = centroids(state_BPD[:half], belief_BPS[:half]), state_BPD[:half].mean((0, 1))
    random_JD = np.random.default_rng(0).standard_normal(centre_JD.shape)
    length_J1 = np.linalg.norm(centre_JD - mean_D, axis=1, keepdims=True)
    random_JD = mean_D + random_JD * length_J1 / np.linalg.norm(random_JD, axis=1, keepdims=True)
    patches_KJD = np.stack([centre_JD, np.roll(centre_JD, 1, axis=0), random_JD]).astype(state_BPD.dtype)
    log_q_BV, log_q_KJBV, log_given_BSV = map(
        np.asarray, replaced(subject.study, subject.params, COUNT, subject.model, depth, jnp.asarray(patches_KJD))
    )
    target_JBV = np.swapaxes(log_given_BSV, 0, 1)[:, half:]
    after = [float(kl_bits(target_JBV, log_q_JBV[:, half:]).mean()) for log_q_JBV in log_q_KJBV]
    before = kl_bits(target_JBV, np.broadcast_to(log_q_BV[half:], target_JBV.shape)).mean()
    return {"before": float(before), **dict(zip(("after", "other", "random"), after, strict=True))}


@partial(jax.jit, static_argnames=("count", "model"))
def held(study: Study, params: Any, count: int, model: Build) -> tuple[Array, Array, dict[int, Array]]:
    """The exact belief [B, P, S]; log P(outcome | state) at the last observation [B, S, V]; and by depth the residual
    states at the scored tokens [B, P, D].
    """
    tables, batch = sequences(study, count)
    seen, tokens, every = Collect("residual"), study.tunnel.scored(study.horizon), jnp.arange(study.horizon)
    model(study, params)(batch.inputs, tokens, tap=seen)
    # The last layer is computed at the tokens that are asked for alone.
    states = {depth: r if r.shape[1] == len(tokens) else r[:, tokens] for depth, r in seen["residual"].items()}
    belief_BPS = jnp.exp(study.tunnel.log_posterior(tables, batch, every))
    return belief_BPS, study.tunnel.log_given(tables, batch, every[-1:])[:, 0], states


@partial(jax.jit, static_argnames=("count", "model", "depth"))
def replaced(
    study: Study, params: Any, count: int, model: Build, depth: int, patches_KJD: Array
) -> tuple[Array, Array, Array]:
    """The model's log-predictive (nats) at the last observation [B, V]; the same with the residual state there
    replaced by each of the patches [K, J, B, V]; and log P(outcome | state) [B, S, V].
    """
    tables, batch = sequences(study, count)
    token, module = study.tunnel.scored(study.horizon)[-1:], model(study, params)

    def predicted(patch_D: Array | None) -> Array:
        def change(at: int, kind: str, value: Array) -> Array:
            if at != depth or patch_D is None:
                return value
            return value.at[:, -1 if value.shape[1] == 1 else token[0]].set(patch_D)

        return jax.nn.log_softmax(module(batch.inputs, token, tap=Tap(change, "residual")))[:, 0]

    log_q_KJBV = jax.lax.map(lambda patch_JD: jax.lax.map(predicted, patch_JD), patches_KJD)
    last = jnp.asarray([study.horizon - 1])
    return predicted(None), log_q_KJBV, study.tunnel.log_given(tables, batch, last)[:, 0]

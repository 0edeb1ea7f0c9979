"""Losses are named terms: each a sum over the examples of a batch with a weight of its own, {name: (sum, weight)}.

The first is cross-entropy; `train.terms` adds others, times their strength. Sums and weights are summed over devices,
and each sum is divided by its own weight.
"""

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from pydantic import Field

from windtunnel.acting import Acted
from windtunnel.information import kl
from windtunnel.models.tap import Collect
from windtunnel.spec import Family, Real, spec
from windtunnel.tunnels import Batch

SMALL = 1e-12  # added under a root
CROSS_ENTROPY, KL = "cross_entropy", "kl"  # in nats; a learning curve has them in bits
REGRET = "regret"  # of a rollout, in rewards


class Sum(NamedTuple):
    """A sum over examples and positions, and the weight to divide it by."""

    total: Array
    weight: Array


class Look(NamedTuple):
    """What a term may look at: a batch, what exact inference and the model say of it (nats, [B, P, V]), and what the
    model showed to a tap. `axis` is the mesh axis over which the batch is split, or None.
    """

    tunnel: Any
    batch: Batch
    log_p_BPV: Array
    log_q_BPV: Array
    seen: Collect
    axis: str | None
    tokens: Any = None  # int[P]: the tokens at which outcomes are predicted
    log_domains_BPK: Any = None  # the exact log-posterior over K domains, for terms that want it (`by_domain`)
    tables: Any = None  # the tunnel's
    acted: Acted | None = None  # where the batch is what the model did itself (`train.objective=reward`)

    def at_tokens(self, x_BTD: Array) -> Array:
        """States at the tokens at which outcomes are predicted; the last layer may have no others."""
        return x_BTD if x_BTD.shape[1] == len(self.tokens) else x_BTD[:, self.tokens]

    def over_devices(self, tree: Any) -> Any:
        """The sum over the devices that share the batch."""
        return tree if self.axis is None else lax.psum(tree, self.axis)


@spec
class Term:
    """A loss term, `strength` × sum ÷ weight. A plug-in's is a `@spec` subclass with a `name` of its own.

    `kinds` are what it wants a tap to show it (`models/tap.py`). A term that is no sum over examples, but a statistic
    of the batch, sums over devices inside itself (`look.over_devices`) and gives the weight 1.
    """

    strength: Real = 1.0
    kinds: ClassVar[tuple[str, ...]] = ()
    by_domain: ClassVar[bool] = False  # whether it wants the exact posterior over domains

    def refusal(self, study: Any) -> str | None:
        """Why it makes no sense for a study, in a line that follows the term's key; None where it does."""
        return None

    @property
    def name(self) -> str:
        raise NotImplementedError

    def measure(self, look: Look) -> Sum:
        raise NotImplementedError


@spec
class Domain(Term):
    """KL of the exact posterior over domains to the model's gate (nats): teaches a router which domain it is. Group k
    of heads, or expert k, is for domain k. Control: with `shuffled`, the posterior of another sequence of the batch.
    """

    name: Literal["domain"] = "domain"
    shuffled: bool = False
    kinds = ("gate",)
    by_domain = True

    def refusal(self, study: Any) -> str | None:
        gates, domains = study.model.gates, study.tunnel.domain_count
        if gates == domains:
            return None
        has = f"has a gate over {gates}" if gates else "has no gate"
        return f"model {study.model.name} {has}, the tunnel {domains} domains; model.router.groups={domains} gives one"

    def measure(self, look: Look) -> Sum:
        gate_BPK = look.seen["gate"][max(look.seen["gate"])]
        log_p_BPK = jnp.roll(look.log_domains_BPK, 1, axis=0) if self.shuffled else look.log_domains_BPK
        weight_BP = look.batch.weight_BP
        return Sum(jnp.sum(kl(log_p_BPK, gate_BPK) * weight_BP), jnp.sum(weight_BP))


@spec
class Separation(Term):
    """How much the manifolds of domains overlap in the residual stream after `layer` (null: the last). With C_k the
    covariance of the states x, each weighted by the exact posterior of domain k, the mean over pairs of domains of

        tr(C_j C_k) / (‖C_j‖ ‖C_k‖),     between 0 (orthogonal) and 1 (the same, up to scale).

    A statistic of the batch. Controls (`of`): `shuffled`, with the posteriors of other sequences; `subspaces`, the
    overlap ‖Uᵀ C V‖² / (‖Uᵀ C U‖ ‖Vᵀ C V‖) of two fixed random subspaces of half the width each, which knows nothing of
    domains.
    """

    name: Literal["separation"] = "separation"
    layer: Annotated[int, Field(ge=0)] | None = None
    of: Literal["domains", "shuffled", "subspaces"] = "domains"
    kinds = ("residual",)
    by_domain = True

    def refusal(self, study: Any) -> str | None:
        layers = study.model.layers
        if self.layer is not None and self.layer >= layers:
            return f"layer={self.layer}: the model has {layers} layers, counted from 0"
        return None

    def measure(self, look: Look) -> Sum:
        states = look.seen["residual"]
        x_BPD = look.at_tokens(states[max(states) if self.layer is None else self.layer])
        log_w_BPK = {
            "domains": look.log_domains_BPK,
            "shuffled": jnp.roll(look.log_domains_BPK, 1, axis=0),
            "subspaces": jnp.zeros((*x_BPD.shape[:2], 1)),
        }[self.of]
        covariance_KDD = self._covariances(look, x_BPD, jnp.exp(log_w_BPK) * look.batch.weight_BP[..., None])
        if self.of != "subspaces":
            first, second = np.triu_indices(len(covariance_KDD), 1)
            return Sum(jnp.mean(alike(covariance_KDD[first], covariance_KDD[second])), jnp.ones(()))
        width = x_BPD.shape[-1]
        frame_DD = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (width, width)))[0]
        turned_DD = frame_DD.T @ covariance_KDD[0] @ frame_DD
        own, other = turned_DD[: width // 2], turned_DD[width // 2 :]
        between = jnp.sum(own[:, width // 2 :] ** 2)
        sizes = jnp.sum(own[:, : width // 2] ** 2) * jnp.sum(other[:, width // 2 :] ** 2)
        return Sum(between / jnp.sqrt(sizes + SMALL), jnp.ones(()))

    def _covariances(self, look: Look, x_BPD: Array, weight_BPK: Array) -> Array:
        """[K, D, D], over all devices."""
        parts = (
            jnp.sum(weight_BPK, (0, 1)),
            jnp.einsum("bpk,bpd->kd", weight_BPK, x_BPD),
            jnp.einsum("bpk,bpd,bpe->kde", weight_BPK, x_BPD, x_BPD),
        )
        count_K, sum_KD, square_KDD = look.over_devices(parts)
        mean_KD = sum_KD / count_K[:, None]
        return square_KDD / count_K[:, None, None] - mean_KD[:, :, None] * mean_KD[:, None, :]


def alike(a_KDD: Array, b_KDD: Array) -> Array:
    """[K]: the cosine of two symmetric matrices, tr(A B) / (‖A‖ ‖B‖)."""
    sizes = jnp.sum(a_KDD**2, (1, 2)) * jnp.sum(b_KDD**2, (1, 2))
    return jnp.sum(a_KDD * b_KDD, (1, 2)) / jnp.sqrt(sizes + SMALL)


@spec
class Reward(Term):
    """A second target for who acts: what each arm would pay if it were pulled next. KL (nats, the mean over arms) of
    the exact predictive, Beta–Bernoulli, to Bernoulli(σ(x_k)), with x_k the first K numbers of the last residual state:
    a head without parameters, since the layers below can turn what they write into any direction.
    """

    name: Literal["reward"] = "reward"
    kinds = ("residual",)

    def refusal(self, study: Any) -> str | None:
        arms = study.tunnel.actions
        if not arms:
            return f"{study.tunnel.name} has no actions to be rewarded (valid with tunnel=bandit)"
        if study.model.width < arms:
            return f"model.width={study.model.width} has no place for {arms} arms"
        return None

    def measure(self, look: Look) -> Sum:
        states = look.seen["residual"]
        at = jnp.arange(look.log_p_BPV.shape[1])
        log_p_BPKR = look.tunnel.log_rewards(look.tables, look.batch, at)
        log_q_BPKR = log_rewards(look.at_tokens(states[max(states)]), look.tunnel.actions)
        weight_BP = look.batch.weight_BP
        return Sum(jnp.sum(jnp.mean(kl(log_p_BPKR, log_q_BPKR), axis=-1) * weight_BP), jnp.sum(weight_BP))


def log_rewards(x_BPD: Array, arms: int) -> Array:
    """[B, P, K, R]: what states say of the next reward of each arm, if the term `reward` has taught them to."""
    x_BPK = x_BPD[..., :arms]
    return jnp.stack([jax.nn.log_sigmoid(-x_BPK), jax.nn.log_sigmoid(x_BPK)], axis=-1)


TERMS = Family(Term, Domain, Separation, Reward)
AnyTerm = Annotated[Term, TERMS]


def terms(train: Any, look: Look) -> dict[str, Sum]:
    """Every term of a study's loss by its name, and `kl` to the exact posterior, which is reported and not trained on.

    The first is what is trained on beside terms. Cross-entropy is to the exact predictive p (`posterior` supervision)
    or to the drawn outcome (`sample`): −Σ_v p_v log q_v or −log q_o. Their gradients have the same mean, since outcomes
    are drawn from p; at every single observation, the first lacks the variance of the draw. Of a batch that the model
    has acted out itself, it is the regret.
    """
    if train.supervision == "posterior":
        target_BPV = jnp.exp(look.log_p_BPV)
    else:
        target_BPV = jax.nn.one_hot(look.batch.outcome_BP, look.tunnel.outcomes)
    weight_BP = look.batch.weight_BP
    weight = jnp.sum(weight_BP)
    cross_entropy = Sum(-jnp.sum(target_BPV * look.log_q_BPV * weight_BP[..., None]), weight)
    return {
        **({CROSS_ENTROPY: cross_entropy} if look.acted is None else {REGRET: lost(look, look.acted)}),
        KL: Sum(jnp.sum(kl(look.log_p_BPV, look.log_q_BPV) * weight_BP), weight),
        **{name: term.measure(look) for name, term in train.terms.items()},
    }


def lost(look: Look, acted: Acted) -> Sum:
    """The regret of rollouts, whose gradient is the policy gradient −Σ_t return_t ∇ log π(arm_t): what a sample of
    states and choices says of the gradient of the expected regret (Williams 1992).
    """
    log_taken_BT = jnp.take_along_axis(look.log_q_BPV, acted.arm_BT[..., None], axis=-1)[..., 0]
    score = -jnp.sum(log_taken_BT * acted.return_BT)
    total = score + lax.stop_gradient(jnp.sum(acted.regret_BT) - score)
    return Sum(total, jnp.asarray(float(len(acted.arm_BT))))


def first(sums: dict[str, Sum]) -> str:
    """The name of what is trained on beside terms."""
    return REGRET if REGRET in sums else CROSS_ENTROPY


def combined(train: Any, sums: dict[str, Sum], axis: str | None) -> Array:
    """The loss of this device's share, times the weight of its first term over all devices, by which the gradient is
    divided in the end: sums are in the gradient as they are until then.
    """
    main = first(sums)
    loss = sums[main].total
    if train.terms:
        every = {name: sums[name].weight for name in (main, *train.terms)}
        every = jax.tree.map(lax.stop_gradient, every if axis is None else lax.psum(every, axis))
        for name, term in train.terms.items():
            loss = loss + term.strength * sums[name].total * every[main] / every[name]
    return loss


def means(sums: dict[str, Sum]) -> dict[str, Array]:
    """What a learning curve shows: every sum over its weight, `kl_bits` and `cross_entropy_bits` in bits."""
    bits = {name: sums[name].total / sums[name].weight / math.log(2) for name in (KL, CROSS_ENTROPY) if name in sums}
    others = {name: of.total / of.weight for name, of in sums.items() if name not in bits}
    return {**{f"{name}_bits": mean for name, mean in bits.items()}, **others}


def curve_names(train: Any) -> list[str]:
    """The names of a learning curve, KL first."""
    return [f"{KL}_bits", REGRET if train.objective == "reward" else f"{CROSS_ENTROPY}_bits", *train.terms]

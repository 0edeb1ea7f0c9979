"""Runs: segments of geometric length whose beginnings nothing marks, by the recursion over run lengths.

Where every observation begins a new run with probability h (the hazard), the unknowns are when the present run began
and from which domain it comes. With a_t(s, d) the probability, before observation t, that it is of domain d and began
at observation s,

    p(v) = Σ_{s≤t,d} a_t(s, d) p_d(v | o_s … o_{t−1}),     a_0(0, d) = 1/D,
    a_{t+1}(s, d) ∝ (1−h) a_t(s, d) p_d(o_t | o_s … o_{t−1}) for s ≤ t,     a_{t+1}(t+1, d) = h/D.

Where the hazard is one of a few, it is one more unknown, which the recursion carries along: a_t(s, d, h), and a run
that begins has h P(h | o_0 … o_t)/D.

Adams & MacKay 2007; Fearnhead & Liu 2007; Wilson, Nassar & Gold 2010. In the shapes of this file, S is the observations
at which a run can have begun, D the domains, H the hazards, W the observations of a window and T all of them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array

from windtunnel.tunnels.base import Batch, Tunnel, uniform
from windtunnel.tunnels.recall import by_blocks

Domains = Sequence[Tunnel]


def begins_anywhere(domain: Tunnel) -> bool:
    """Whether a domain can say what it would say after any beginning."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, 2), (1,), (1, 1, 1))]
    return jax.eval_shape(domain.log_restarted, *shapes) is not None


def beliefs(log_seen_BTSD: Array, hazard_H: Array) -> Array:
    """[B, T + 1, T + 1, D, H]: log a_t(s, d, h) before every observation t = 0 … T, from the log-probability of each
    observation in a run of each domain that began at s. What that says for s > t is not read.
    """
    batch, length, _, domains = log_seen_BTSD.shape
    log_domain, log_hazard = -jnp.log(float(domains)), -jnp.log(float(len(hazard_H)))
    shape = batch, length + 1, domains, len(hazard_H)
    start_BSDH = jnp.full(shape, -jnp.inf, log_seen_BTSD.dtype).at[:, 0].set(log_domain + log_hazard)
    log_stays_111H, log_begins_11H = jnp.log1p(-hazard_H)[None, None, None], jnp.log(hazard_H)[None, None]

    def step(state_BSDH: Array, seen: tuple[Array, Array]) -> tuple[Array, Array]:
        t, log_seen_BSD = seen
        posterior_BSDH = state_BSDH.at[:, :length].add(log_seen_BSD[..., None])
        posterior_BSDH = jax.nn.log_softmax(posterior_BSDH, axis=(1, 2, 3))
        log_hazard_B1H = logsumexp(posterior_BSDH, axis=(1, 2))[:, None]
        fresh_B1H = log_hazard_B1H + log_begins_11H + log_domain
        next_BSDH = (posterior_BSDH + log_stays_111H).at[:, t + 1].set(fresh_B1H)
        return next_BSDH, next_BSDH

    _, state_TBSDH = lax.scan(step, start_BSDH, (jnp.arange(length), jnp.moveaxis(log_seen_BTSD, 1, 0)))
    return jnp.moveaxis(jnp.concatenate([start_BSDH[None], state_TBSDH]), 0, 1)


def restarted(domains: Domains, symbol_BT: Array, at: Array, of_BPV: Array | None = None) -> Array:
    """[B, P, S, D, V]: the log-probability in every domain, at `at`, of the symbols `of` (None: of all), if its run
    began at s ≤ at. A domain excludes the symbols that it lacks; where one came, another replaces it.
    """
    every_V = jnp.arange(max(domain.outcomes for domain in domains))
    asked_BPV = jnp.broadcast_to(every_V, (len(symbol_BT), len(at), len(every_V))) if of_BPV is None else of_BPV

    def in_domain(domain: Tunnel) -> Array:
        last = domain.outcomes - 1
        log_p_BPSV = domain.log_restarted(jnp.minimum(symbol_BT, last), at, jnp.minimum(asked_BPV, last))
        assert log_p_BPSV is not None  # the door made sure
        return jnp.where((asked_BPV <= last)[:, :, None], log_p_BPSV, -jnp.inf)

    return jnp.stack([in_domain(domain) for domain in domains], axis=3)


def symbols(batch: Batch) -> tuple[Array, Array]:
    """int[B, T]: the symbols that inputs show, then one that nothing asks for; and [T] where they are."""
    return jnp.pad(batch.inputs[:, 1:], ((0, 0), (0, 1))), jnp.arange(batch.inputs.shape[1])


def log_seen(domains: Domains, batch: Batch) -> Array:
    """[B, T, S, D]: the log-probability of each symbol that came, in a run of each domain that began at s."""
    symbol_BT, every = symbols(batch)

    def drawn(at: Array) -> Array:
        return restarted(domains, symbol_BT, at, symbol_BT[:, at, None])[..., 0]

    return by_blocks(drawn, batch, every, terms=len(every) * len(domains))


def log_began(domains: Domains, hazards: Any, batch: Batch) -> Array:
    """[B, T, S, D, H]: log P(run began at s, domain, hazard | the symbols before t)."""
    return beliefs(log_seen(domains, batch), grid(hazards))[:, :-1, :-1]


def log_joint(domains: Domains, hazards: Any, batch: Batch, at: Array) -> Array:
    """[B, P, D, V]: log P(domain, symbol | the symbols before), over all beginnings of the present run and hazards."""
    symbol_BT, every = symbols(batch)
    state_BTSD = logsumexp(log_began(domains, hazards, batch), axis=-1)

    def answer(at: Array) -> Array:
        return logsumexp(state_BTSD[:, at][..., None] + restarted(domains, symbol_BT, at), axis=2)

    return by_blocks(answer, batch, at, terms=len(every) * sum(domain.outcomes for domain in domains))


def cut(domains: Domains, hazards: Any, batch: Batch, at: Array, windows: dict[str, int]) -> dict[str, Array]:
    """{name: [B, P, V]}: the predictives of those who take the last w symbols for a sequence of its own."""
    symbol_BT, every = symbols(batch)
    log_seen_BTSD = log_seen(domains, batch)

    def last(window: int) -> Array:
        def answer(at: Array) -> Array:
            first_P = jnp.maximum(at - window, 0)
            began_PW = jnp.minimum(first_P[:, None] + jnp.arange(window + 1)[None], len(every) - 1)
            seen_PW = began_PW[:, :-1]
            log_seen_BPWWD = log_seen_BTSD[:, seen_PW[:, :, None], seen_PW[:, None, :]]
            size = len(symbol_BT) * len(at)  # as sequences of their own
            state_KWWDH = beliefs(log_seen_BPWWD.reshape(size, *log_seen_BPWWD.shape[2:]), grid(hazards))
            state_KWWD = logsumexp(state_KWWDH, axis=-1)
            state_BPWWD = state_KWWD.reshape(len(symbol_BT), len(at), *state_KWWD.shape[1:])
            count_P = at - first_P  # of what is seen: less than w near the beginning
            state_BPWD = jnp.take_along_axis(state_BPWWD, count_P[None, :, None, None, None], axis=2)[:, :, 0]
            log_p_BPSDV = restarted(domains, symbol_BT, at)
            log_p_BPWDV = jnp.take_along_axis(log_p_BPSDV, began_PW[None, :, :, None, None], axis=2)
            return logsumexp(state_BPWD[..., None] + log_p_BPWDV, axis=(2, 3))

        weighs = (len(every) + window**2) * sum(domain.outcomes for domain in domains)
        return by_blocks(answer, batch, at, terms=weighs)

    return {name: last(min(window, len(every) - 1)) for name, window in windows.items()}


def grid(hazards: Any) -> Array:
    """[H]: one hazard, or several that are equally likely."""
    return jnp.atleast_1d(jnp.asarray(hazards, float))


def sample(domains: Domains, hazard: Any, key: Array, batch: int, observations: int) -> Array:
    """int32[B, T]: symbol after symbol, each from what its domain says after those of its run."""
    level_B3T = uniform(key, (batch, 3, observations))

    def step(carry: tuple[Array, Array, Array], t: Array) -> tuple[tuple[Array, Array, Array], None]:
        symbol_BT, first_B, domain_B = carry
        begins_B = (level_B3T[:, 0, t] < hazard) | (t == 0)
        first_B = jnp.where(begins_B, t, first_B)
        domain_B = jnp.where(begins_B, (level_B3T[:, 1, t] * len(domains)).astype(jnp.int32), domain_B)
        p_BSDV = jnp.exp(restarted(domains, symbol_BT, t[None])[:, 0])
        p_BV = p_BSDV[jnp.arange(batch), first_B, domain_B]
        below_BV = level_B3T[:, 2, t, None] >= jnp.cumsum(p_BV, axis=-1)[:, :-1]  # rounding cannot pass the last
        return (symbol_BT.at[:, t].set(jnp.sum(below_BV, axis=-1, dtype=jnp.int32)), first_B, domain_B), None

    none_B = jnp.zeros(batch, jnp.int32)
    blank = jnp.zeros((batch, observations), jnp.int32), none_B, none_B
    return lax.scan(step, blank, jnp.arange(observations, dtype=jnp.int32))[0][0]

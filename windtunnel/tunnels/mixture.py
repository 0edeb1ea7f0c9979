"""`mixture` (select): several tunnels in one stream, each sequence or segment from one of them, marked or not.

In the shapes of this file, S is the segments of all sequences, D the domains, and T the tokens of a segment.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Knob, Size, spec
from windtunnel.tunnels import answers, runs
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tables, Tunnel
from windtunnel.tunnels.echo import Echo
from windtunnel.tunnels.hmm import Hmm
from windtunnel.tunnels.markov import Markov
from windtunnel.tunnels.recurrence import Recurrence
from windtunnel.tunnels.urn import Urn

Stream = Annotated[
    Echo | Hmm | Markov | Recurrence | Urn, Field(discriminator="name")
]  # tunnels that predict the next symbol


@spec
class Mixture(Tunnel):
    """A domain d is drawn uniformly for each segment of `segment` observations (null: the sequence is one segment), and
    the segment is a new sequence of that domain. Domains share their symbols, so any domain may have produced a symbol.
    With s the start of the segment,

        P(d | o_s … o_{t−1}) ∝ Π_{s≤r<t} p_d(o_r | o_s … o_{r−1}),     p(v) = Σ_d P(d | …) p_d(v | …).

    The first token of a segment is V, the largest number of symbols of any domain, or V + 1 + d if domains are
    `marked`; the symbols follow, except the last. Symbols that a domain does not predict (the first ones of a chain)
    are uniform here. With a chain of two symbols and a chain of four, unmarked: the first symbol is 0 with probability
    (½ + ¼)/2 = ⅜; after a 0, the chain of two is twice as likely as the other.

    With a `hazard` h in place of `segment`, every observation after the first begins a new segment with probability h,
    which nothing marks; the unknowns are then when the present segment began and its domain (`runs.py`).
    """

    name: Literal["mixture"] = "mixture"
    domains: Annotated[tuple[Stream, ...], Field(min_length=2)] = (
        Markov(symbols=5, concentration=0.3),
        Recurrence(modulus=5),
    )
    marked: bool = False
    segment: Size | None = None
    hazard: Annotated[float, Field(gt=0, lt=1), Knob] | None = None

    hypothesis = "domain"

    @property
    def conflict(self) -> str | None:
        for number, domain in enumerate(self.domains):
            if isinstance(domain, Hmm) and (domain.parameters, domain.target) != ("fixed", "symbol"):
                return f"domains.{number}: hmm takes part with parameters=fixed and target=symbol"
            if domain.conflict is not None:
                return f"domains.{number}.{domain.conflict}"
            if self.hazard is not None and not runs.begins_anywhere(domain):
                return f"domains.{number}={domain.name}: with a hazard, echo and markov of order 0 can take part"
        if self.hazard is not None and (self.marked or self.segment is not None):
            return "hazard: segments begin where nothing marks it; valid with marked=false and segment=null"
        return None

    @property
    def outcomes(self) -> int:
        return max(domain.outcomes for domain in self.domains)

    @property
    def vocabulary(self) -> int:
        return self.outcomes + 1 + (len(self.domains) if self.marked else 0)

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.outcomes)

    @property
    def start(self) -> int | None:
        return None if self.marked else self.outcomes

    @property
    def hypotheses(self) -> int:
        return len(self.domains)

    @property
    def domain_count(self) -> int:
        return len(self.domains)

    def _length(self, observations: int) -> int:
        return min(self.segment or observations, observations)

    def prepare(self, observations: int) -> Tables:
        return tuple(domain.prepare(self._length(observations)) for domain in self.domains)

    def sample(self, key: Array, tables: Tables, batch: int, observations: int) -> Batch:
        if self.hazard is not None:
            symbol_BT = runs.sample(self.domains, self.hazard, key, batch, observations)
            inputs = jnp.pad(symbol_BT[:, :-1], ((0, 0), (1, 0)), constant_values=self.outcomes)
            return Batch(inputs, symbol_BT, jnp.ones(symbol_BT.shape))
        length = self._length(observations)
        segments = batch * -(-observations // length)
        key_domain, *keys = jax.random.split(key, 1 + len(self.domains))
        domain_S = jax.random.randint(key_domain, (segments,), 0, len(self.domains))

        def symbols(domain: Any, key: Array, domain_tables: Tables) -> Array:
            sequences = domain.sample(key, domain_tables, segments, max(1, length - given(domain)))
            return jnp.concatenate([sequences.inputs[:, 1 : 1 + given(domain)], sequences.outcome_BP], axis=1)[
                :, :length
            ]

        symbol_DST = jnp.stack([symbols(*arguments) for arguments in zip(self.domains, keys, tables, strict=True)])
        symbol_ST = jnp.take_along_axis(symbol_DST, domain_S[None, :, None], axis=0)[0].astype(jnp.int32)
        first_S = self.outcomes + (1 + domain_S if self.marked else jnp.zeros_like(domain_S))
        inputs_ST = jnp.concatenate([first_S[:, None].astype(jnp.int32), symbol_ST[:, :-1]], axis=1)
        inputs, outcome = (x_ST.reshape(batch, -1)[:, :observations] for x_ST in (inputs_ST, symbol_ST))
        return Batch(inputs, outcome, jnp.ones(outcome.shape))

    def _segments(self, batch: Batch) -> Batch:
        """The same symbols with a row for each segment."""
        observations = batch.outcome_BP.shape[1]
        length = self._length(observations)
        padding = ((0, 0), (0, -observations % length))
        return Batch(*(jnp.pad(leaf, padding).reshape(-1, length) for leaf in batch))

    def _log_predictive_of(self, domain: Any, tables: Tables, segments: Batch, window: int | None) -> Array:
        """[S, T, V]: log-predictive of each symbol in one domain, having seen the last `window` symbols (None: all)."""
        # A symbol that the domain does not have rules it out (see the padding below). Here another symbol replaces it.
        symbol_ST = jnp.minimum(segments.outcome_BP, domain.outcomes - 1)
        lead, length = given(domain), symbol_ST.shape[1]
        blind = jnp.full((len(symbol_ST), length, domain.outcomes), -jnp.log(float(domain.outcomes)))
        if length > lead and (window is None or window >= lead):
            start = jnp.full_like(symbol_ST[:, :1], domain.outcomes)
            inputs = jnp.concatenate([start, symbol_ST[:, :-1]], axis=1)
            scored_part = Batch(inputs, symbol_ST[:, lead:], segments.weight_BP[:, lead:])
            at = jnp.arange(length - lead)
            if window is None:
                known = domain.log_predictive(tables, scored_part, at)
            else:
                known = domain.log_last(tables, scored_part, at, window - lead)
            blind = jnp.concatenate([blind[:, :lead], known], axis=1)
        lacking = ((0, 0), (0, 0), (0, self.outcomes - domain.outcomes))
        return jnp.pad(blind, lacking, constant_values=-jnp.inf)

    def _log_predictives(self, tables: Tables, segments: Batch, window: int | None) -> Array:
        """[D, S, T, V]: the log-predictive of every domain."""
        pairs = zip(self.domains, tables, strict=True)
        return jnp.stack(
            [self._log_predictive_of(domain, domain_tables, segments, window) for domain, domain_tables in pairs]
        )

    def _log_prior(self, segments: Batch) -> Array:
        """[D, S, 1]: uniform, or certain of the marked domain."""
        domain_D11 = jnp.arange(len(self.domains))[:, None, None]
        mark_1S1 = segments.inputs[None, :, :1] - self.outcomes - 1
        if self.marked:
            return jnp.where(mark_1S1 == domain_D11, 0.0, -jnp.inf)
        return jnp.full((len(self.domains), *mark_1S1.shape[1:]), -jnp.log(float(len(self.domains))))

    def _posterior(self, tables: Tables, batch: Batch) -> tuple[Array, Array]:
        """The log-posterior over domains [D, S, T], and the log-predictive of each [D, S, T, V]."""
        segments = self._segments(batch)
        log_p_DSTV = self._log_predictives(tables, segments, None)
        before_DST = jnp.cumsum(
            jnp.pad(log_p_of_drawn(log_p_DSTV, segments), ((0, 0), (0, 0), (1, 0)))[:, :, :-1], axis=-1
        )
        return jax.nn.log_softmax(self._log_prior(segments) + before_DST, axis=0), log_p_DSTV

    def _at(self, x_STV: Array, batch: Batch, at: Array) -> Array:
        """From segments to the positions `at` of the sequences."""
        return x_STV.reshape(batch.inputs.shape[0], -1, x_STV.shape[-1])[:, at]

    def log_posterior(self, tables: Tables, batch: Batch, at: Array) -> Array:
        if self.hazard is not None:
            return logsumexp(runs.log_joint(self.domains, self.hazard, batch, at), axis=-1)
        log_posterior_DST, _ = self._posterior(tables, batch)
        return self._at(jnp.moveaxis(log_posterior_DST, 0, -1), batch, at)

    def frame(self, tables: Tables, batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.outcomes)

    @property
    def marginalises(self) -> bool:
        return self.hazard is None and all(domain.marginalises for domain in self.domains)

    def log_domains(self, tables: Tables, batch: Batch, at: Array) -> Array:
        return self.log_posterior(tables, batch, at)

    def log_predictive(self, tables: Tables, batch: Batch, at: Array) -> Array:
        if self.hazard is not None:
            return logsumexp(runs.log_joint(self.domains, self.hazard, batch, at), axis=2)
        log_posterior_DST, log_p_DSTV = self._posterior(tables, batch)
        return self._at(logsumexp(log_posterior_DST[..., None] + log_p_DSTV, axis=0), batch, at)

    def log_mixture(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """Computed from `log_posterior` at the observations `at` alone."""
        if self.hazard is not None:
            log_joint_BPDV = runs.log_joint(self.domains, self.hazard, batch, at)
            log_p_BPDV = jax.nn.log_softmax(log_joint_BPDV, axis=-1)
            return logsumexp(self.log_posterior(tables, batch, at)[..., None] + log_p_BPDV, axis=2)
        segments = self._segments(batch)
        log_p_SDTV = jnp.moveaxis(self._log_predictives(tables, segments, None), 0, 1)
        log_p_BPVD = jnp.stack([self._at(log_p_SDTV[:, d], batch, at) for d in range(len(self.domains))], axis=-1)
        return logsumexp(self.log_posterior(tables, batch, at)[:, :, None] + log_p_BPVD, axis=-1)

    def log_last(self, tables: Tables, batch: Batch, at: Array, window: int) -> Array:
        """A reasoner that knows where segments begin, and their marks, but sees the last symbols only. The evidence of
        a window is a sum over shorter windows: log p_d(window) = Σ_{1≤i≤w} log p_d(o_{t−i} | the w−i symbols before
        it).
        """
        return self._lasts(tables, batch, at, {"": window})[""]

    def baselines(self, tables: Tables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        return self._lasts(tables, batch, at, {"prior": 0, **self.windows(horizon)})

    def _lasts(self, tables: Tables, batch: Batch, at: Array, windows: dict[str, int]) -> dict[str, Array]:
        if self.hazard is not None:
            return runs.cut(self.domains, self.hazard, batch, at, windows)
        segments = self._segments(batch)
        length = segments.inputs.shape[1]
        reach = min(max(windows.values()), length - 1)
        log_p_DSTV = [self._log_predictives(tables, segments, window) for window in range(reach + 1)]
        seen_DST = [log_p_of_drawn(log_p, segments) for log_p in log_p_DSTV]

        def last(window: int) -> Array:
            shifted_DST = [jnp.pad(seen_DST[window - i], ((0, 0), (0, 0), (i, 0)))[:, :, :length]
                           for i in range(1, window + 1)]  # fmt: skip
            log_posterior_DST = jax.nn.log_softmax(self._log_prior(segments) + sum(shifted_DST), axis=0)
            return self._at(logsumexp(log_posterior_DST[..., None] + log_p_DSTV[window], axis=0), batch, at)

        return {name: last(min(window, reach)) for name, window in windows.items()}


def given(domain: Tunnel) -> int:
    """The number of symbols between a domain's start and its first outcome, which it does not predict."""
    return domain.tokens(1) - 1


def log_p_of_drawn(log_p_DSTV: Array, segments: Batch) -> Array:
    """[D, S, T]: the log-probability of each symbol that was drawn."""
    is_symbol_1STV = jax.nn.one_hot(segments.outcome_BP, log_p_DSTV.shape[-1], dtype=bool)[None]
    return jnp.sum(jnp.where(is_symbol_1STV, log_p_DSTV, 0.0), axis=-1)

"""`hmm` (transport): follow a hidden state through a Markov chain that is known, from noisy symbols.

In the shapes of this file, S is the hidden states and O the symbols; in `token_weights`, O is the observations.
"""

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array
from pydantic import Field

from windtunnel.information import kl
from windtunnel.spec import Knob, Seed, spec
from windtunnel.tunnels.answers import Frame, Law
from windtunnel.tunnels.base import Batch, Tunnel, uniform, uniform_log_predictive
from windtunnel.tunnels.chain import FLOOR, GRAIN, Chain, broadcast, chosen, draws, forgets, hundredths, normalised
from windtunnel.tunnels.filtering import log_filter, log_filter_last

MESS3 = {"x": 0.05, "a": 0.85}
Mixing = Annotated[float, Field(ge=0, le=0.99), Knob]
Known = Chain | tuple[()]  # the fixed chain, if there is one


@spec
class Hmm(Tunnel):
    """z_1 is uniform over S states, z_{t+1} ~ T[z_t], and each state emits a symbol o_t ~ E[z_t]. With `target=state`,
    predict z_t at o_t; with `target=symbol`, predict o_t before it is shown. The forward filter is exact:

        P(z_t = j | o_<t) = Σ_i P(z_{t−1} = i | o_<t) T_ij,      P(z_t = j | o_≤t) ∝ P(z_t = j | o_<t) E_j(o_t),
        p(o_t = v | o_<t) = Σ_j P(z_t = j | o_<t) E_j(v).

    Rows of T and E are Dirichlet(1). Such chains forget fast: |λ₂| of T is 0.38 in the mean, and the last four symbols
    carry all but 0.0003 bits of the information. So `mixing` λ makes T = λI + (1−λ)1πᵀ, π ~ Dirichlet(1), whose |λ₂| is
    exactly λ. Or T and E are those of the `preset` Mess3 with x = 0.05, a = 0.85 (Marzen & Crutchfield 2017; Shai et
    al. 2024), which emits on edges: T^(o)_ij = T_ij E_j(o), that is, the state that is reached emits.

    A start comes before the symbols, because only z_1 is uniform and a model without absolute positions has to
    recognise it. `parameters` says how the model learns T and E. `features`: each token is the symbol one-hot, log
    E_j(o_t), T and E; the start has no symbol. `fixed`: T and E are drawn once, from `parameters_seed`, and never
    shown; symbols are the tokens 0 … O−1, the start is O. `tokens`: the start is a header `trans` T `emit` E `obs` with
    a token for each entry. Entries are at least 0.05 and in hundredths, rows sum to 1.00, and the data are drawn from
    these rounded rows (so |λ₂| ≤ 1 − 0.05 S). Hundredths are the tokens O … O+100, followed by the three marks.

    With Mess3 and the symbols 0 0: P(z_1 | o_1) = (.85, .075, .075), then P(z_2 | o_1) = (.7725, .11375, .11375) and
    P(z_2 | o_1 o_2) = (.9747, .0127, .0127).
    """

    name: Literal["hmm"] = "hmm"
    states: Annotated[int, Field(ge=2, le=100)] = 5
    symbols: Annotated[int, Field(ge=2, le=100)] = 5
    parameters: Literal["features", "tokens", "fixed"] = "features"
    parameters_seed: Seed = 0
    target: Literal["state", "symbol"] = "state"
    mixing: Mixing | None = None
    preset: Literal["dirichlet", "mess3"] = "dirichlet"

    hypothesis = "state"
    recursive = True
    weighs_far = False
    size = "states"
    count = staticmethod(lambda states: states)

    @property
    def conflict(self) -> str | None:
        if self.parameters == "tokens" and self.mixing is not None:
            return "mixing: parameters=tokens has none, since its rows are floored; use features or fixed, or null"
        if self.parameters == "tokens" and max(self.states, self.symbols) > 100 // FLOOR:
            return f"parameters=tokens: rows of entries ≥ 0.0{FLOOR} hold at most {100 // FLOOR} states or symbols"
        if self.preset == "mess3" and (self.states, self.symbols, self.parameters) != (3, 3, "fixed"):
            return "preset=mess3: needs states=3, symbols=3 and parameters=fixed (tunnel=mess3 has them)"
        if self.preset == "mess3" and self.mixing is not None:
            return "mixing: preset=mess3 has its own; use null"
        return None

    @property
    def outcomes(self) -> int:
        return self.states if self.target == "state" else self.symbols

    @property
    def _entries(self) -> int:
        return self.states * (self.states + self.symbols)

    @property
    def header(self) -> int:
        """Tokens before the first symbol."""
        return self._entries + 3 if self.parameters == "tokens" else 1

    @property
    def _blind(self) -> int:
        """1 if an outcome is predicted one token before its symbol, 0 if at its symbol."""
        return int(self.target == "symbol")

    @property
    def features(self) -> int:
        return self.symbols + self.states + self._entries if self.parameters == "features" else 0

    @property
    def vocabulary(self) -> int:
        return {"features": 0, "tokens": self.symbols + 104, "fixed": self.symbols + 1}[self.parameters]

    @property
    def outcome_tokens(self) -> np.ndarray | None:
        return np.arange(self.symbols) if self._blind and not self.features else None

    @property
    def start(self) -> int | None:
        return self.symbols if self.parameters == "fixed" else None

    def tokens(self, observations: int) -> int:
        return int(self.scored(observations)[-1]) + 1

    def scored(self, observations: int) -> np.ndarray:
        return self.header - self._blind + np.arange(observations)

    def prepare(self, observations: int) -> Known:
        """The fixed chain [1, …], or nothing."""
        return self._draw(jax.random.key(self.parameters_seed), 1) if self.parameters == "fixed" else ()

    def _draw(self, key: Array, count: int) -> Chain:
        """`count` chains from the prior. Always in float32, so that a fixed chain does not depend on the precision."""
        if self.preset == "mess3":
            x, a, same = MESS3["x"], MESS3["a"], jnp.eye(3, dtype=bool)[None]
            return broadcast(Chain(jnp.where(same, 1 - 2 * x, x), jnp.where(same, a, (1 - a) / 2)), count)
        level = uniform(key, (count, self.states, self.states + self.symbols), jnp.float32)
        entries = -jnp.log1p(-level.astype(jnp.result_type(float)))
        transition, emission = normalised(entries[..., : self.states]), normalised(entries[..., self.states :])
        if self.mixing is not None:
            transition = self.mixing * jnp.eye(self.states)[None] + (1 - self.mixing) * transition[:, :1]
        return Chain(transition, emission)

    def _draw_hundredths(self, key: Array, count: int) -> Chain:
        """`count` chains from the prior, in hundredths. Dirichlet(1) rows are the gaps between uniform cuts."""

        def rows(key: Array, width: int) -> Array:
            flat = jax.random.randint(key, (count * self.states * (width - 1),), 0, GRAIN + 1)
            cuts = jnp.sort(flat.reshape(count, self.states, width - 1), axis=-1)
            gaps = jnp.diff(jnp.pad(cuts, ((0, 0), (0, 0), (1, 0))), axis=-1)
            return hundredths(jnp.concatenate([gaps, GRAIN - cuts[..., -1:]], axis=-1))

        key_transition, key_emission = jax.random.split(key)
        return Chain(rows(key_transition, self.states) / 100, rows(key_emission, self.symbols) / 100)

    def sample(self, key: Array, tables: Known, batch: int, observations: int) -> Batch:
        key_chain, key_path = jax.random.split(key)
        draw = self._draw_hundredths if self.parameters == "tokens" else self._draw
        chain = broadcast(tables, batch) if isinstance(tables, Chain) else draw(key_chain, batch)
        level_BT2 = uniform(key_path, (batch, observations, 2))
        # Draw the successor and the symbol of every state beforehand: then only a walk through a table is sequential.
        next_TBS = jnp.moveaxis(draws(chain.transition, level_BT2[..., 0]), 1, 0)

        def step(state_B: Array, next_BS: Array) -> tuple[Array, Array]:
            return chosen(next_BS, state_B), state_B

        first_B = (level_BT2[:, 0, 0] * self.states).astype(jnp.int32)
        _, state_TB = lax.scan(step, first_B, jnp.roll(next_TBS, -1, axis=0))
        state_BT = state_TB.T
        symbol_BT = chosen(draws(chain.emission, level_BT2[..., 1]), state_BT)
        outcome_BT = state_BT if self.target == "state" else symbol_BT
        return Batch(self._show(chain, symbol_BT), outcome_BT, jnp.ones(outcome_BT.shape))

    def _show(self, chain: Chain, symbol_BT: Array) -> Array:
        """The inputs of these chains and symbols."""
        batch, observations = symbol_BT.shape
        visible_BT = symbol_BT[:, : observations - self._blind]
        if self.parameters == "tokens":
            rows = [jnp.round(100 * rows).astype(jnp.int32).reshape(batch, -1) for rows in chain]
            marks = [jnp.full((batch, 1), 101 + mark, jnp.int32) for mark in range(3)]
            header = jnp.concatenate([marks[0], rows[0], marks[1], rows[1], marks[2]], axis=1)
            return jnp.concatenate([self.symbols + header, visible_BT], axis=1)
        visible_BT = jnp.pad(visible_BT, ((0, 0), (1, 0)), constant_values=self.symbols)
        if self.parameters == "fixed":
            return visible_BT
        entries_B1F = jnp.concatenate([rows.reshape(batch, 1, -1) for rows in chain], axis=2)
        entries_BTF = jnp.broadcast_to(entries_B1F, (*visible_BT.shape, self._entries))
        symbol_BTO = jax.nn.one_hot(visible_BT, self.symbols)
        log_emission_BSO = jnp.log(jnp.maximum(chain.emission, jnp.finfo(entries_BTF.dtype).tiny))
        log_likelihood_BTS = jnp.einsum("bto,bso->bts", symbol_BTO, log_emission_BSO)
        return jnp.concatenate([symbol_BTO, log_likelihood_BTS, entries_BTF], axis=2)

    def _seen(self, tables: Known, batch: Batch) -> tuple[Chain, Array]:
        """The chain, and log P(o_t | z_t) [B, T, S] for every symbol in the inputs; 0 for the last if it is no
        input.
        """
        inputs, split, symbol_BT = batch.inputs, self.states**2, batch.inputs[:, self.header :]
        if isinstance(tables, Chain):
            chain = broadcast(tables, len(inputs))
        elif self.parameters == "features":
            chain = self._chain(*jnp.split(inputs[:, 0, -self._entries :], [split], axis=1))
            symbol_BT = jnp.argmax(symbol_BT[..., : self.symbols], axis=-1)
        else:
            hundredths_BF = (inputs[:, : self.header] - self.symbols).astype(jnp.result_type(float))
            chain = self._chain(hundredths_BF[:, 1 : 1 + split] / 100, hundredths_BF[:, 2 + split : -1] / 100)
        log_emission_BOS = jnp.log(jnp.swapaxes(chain.emission, 1, 2))
        is_symbol_BTO = jax.nn.one_hot(symbol_BT, self.symbols, dtype=bool)
        log_evidence_BTS = jnp.sum(jnp.where(is_symbol_BTO[..., None], log_emission_BOS[:, None], 0.0), axis=2)
        return chain, jnp.pad(log_evidence_BTS, ((0, 0), (0, self._blind), (0, 0)))

    def _chain(self, transition_BF: Array, emission_BF: Array) -> Chain:
        """The chain with these flattened rows."""
        return Chain(
            transition_BF.reshape(-1, self.states, self.states), emission_BF.reshape(-1, self.states, self.symbols)
        )

    def _with_target(self, log_state_BPS: Array, log_evidence_BTS: Array, at: Array) -> Array:
        """[B, P, S]: P(z_t | o_≤t) from P(z_t | o_<t), if o_t is seen when the outcome is predicted; else unchanged."""
        return log_state_BPS if self._blind else jax.nn.log_softmax(log_state_BPS + log_evidence_BTS[:, at])

    def _predict(self, log_state_BPS: Array, chain: Chain) -> Array:
        """[B, P, V]: the log-probability of each outcome, from those of the states."""
        if self.target == "state":
            return log_state_BPS
        return logsumexp(log_state_BPS[..., None] + jnp.log(chain.emission)[:, None], axis=2)

    def _filter(self, tables: Known, batch: Batch, at: Array) -> tuple[Chain, Array]:
        chain, log_evidence_BTS = self._seen(tables, batch)
        log_state_BTS = log_filter(jnp.log(chain.transition), log_evidence_BTS)
        return chain, self._with_target(log_state_BTS[:, at], log_evidence_BTS, at)

    def log_posterior(self, tables: Known, batch: Batch, at: Array) -> Array:
        """[B, P, S]: over the state at each observation, given the symbols seen."""
        return self._filter(tables, batch, at)[1]

    def token_weights(self, tables: Known, batch: Batch, at: Array) -> Array:
        """The influence of each symbol o_s on the belief: w_ts ∝ KL(P(z_t | all seen) ‖ P(z_t | all seen but o_s))."""
        observations = batch.outcome_BP.shape[1]
        chain, log_evidence_BOS = self._seen(tables, batch)
        log_evidence_BOS = log_evidence_BOS[:, :observations]
        log_transition_BSS = jnp.log(chain.transition)

        def belief(kept_O: Array) -> Array:
            """[B, P, S]: the filter's belief from the symbols in `kept_O` alone."""
            log_kept_BOS = jnp.where(kept_O[None, :, None], log_evidence_BOS, 0.0)
            return self._with_target(log_filter(log_transition_BSS, log_kept_BOS)[:, at], log_kept_BOS, at)

        log_all_BPS = belief(jnp.ones(observations, bool))
        log_less_OBPS = lax.map(belief, ~jnp.eye(observations, dtype=bool))
        lost_OBP = kl(log_all_BPS[None], log_less_OBPS)
        # A symbol that is not yet seen has no influence, except by rounding.
        seen_PO = jnp.arange(observations)[None] <= at[:, None] - self._blind
        lost_BPO = jnp.where(seen_PO[None], jnp.maximum(jnp.moveaxis(lost_OBP, 0, -1), 0.0), 0.0)
        log_share_BPO = jnp.log(lost_BPO) - jnp.log(jnp.sum(lost_BPO, axis=-1, keepdims=True))
        log_share_BPO = jnp.where(lost_BPO > 0, log_share_BPO, -jnp.inf)
        tokens = batch.inputs.shape[1]
        nothing_BPT = jnp.full((*log_share_BPO.shape[:2], tokens), -jnp.inf)
        symbols = tokens - self.header  # the number of symbols in the inputs
        return nothing_BPT.at[:, :, self.header :].set(log_share_BPO[..., :symbols])

    def frame(self, tables: Known, batch: Batch) -> Frame:
        """Each token is labelled with the most probable state."""
        observations = batch.outcome_BP.shape[1]
        state_BP = jnp.argmax(self.log_posterior(tables, batch, jnp.arange(observations)), axis=-1)
        none_BT = jnp.full(batch.inputs.shape[:2], -1)
        return Frame("states", none_BT.at[:, self.scored(observations)].set(state_BP), self.states)

    def law(self, observations: int) -> Law | None:
        """Of a fixed chain by the gap of its Lyapunov exponents; a bound where |λ₂|, `mixing`, is all that is known."""
        if self.parameters == "fixed":
            transition_SS, emission_SO = (np.asarray(rows[0], float) for rows in self.prepare(observations))
            second = float(np.sort(np.abs(np.linalg.eigvals(transition_SS)))[-2])
            rate = 2 * forgets(transition_SS, emission_SO)
            least = -2 * math.log(second) if second > 0 else math.inf
            return Law("forgetting", rate, "nats an observation", least) if math.isfinite(rate) else None
        if not self.mixing:
            return None
        least = -2 * math.log(float(self.mixing))
        return Law("forgetting", least, "nats an observation", least)

    def log_predictive(self, tables: Known, batch: Batch, at: Array) -> Array:
        chain, log_state_BPS = self._filter(tables, batch, at)
        return self._predict(log_state_BPS, chain)

    def log_given(self, tables: Known, batch: Batch, at: Array) -> Array:
        """[B, P, S, V]: log P(outcome | z_t = j)."""
        chain, _ = self._seen(tables, batch)
        likelihood_BSV = jnp.broadcast_to(jnp.eye(self.states), chain.transition.shape)
        log_BSV = jnp.log(likelihood_BSV if self.target == "state" else chain.emission)
        return jnp.broadcast_to(log_BSV[:, None], (len(log_BSV), at.shape[0], *log_BSV.shape[1:]))

    def log_mixture(self, tables: Known, batch: Batch, at: Array) -> Array:
        _, log_state_BPS = self._filter(tables, batch, at)
        return logsumexp(log_state_BPS[..., None] + self.log_given(tables, batch, at), axis=2)

    def log_last(self, tables: Known, batch: Batch, at: Array, window: int) -> Array:
        """A reasoner that knows T, E and the last symbols; before them, the state has the chain's marginal
        distribution. With window 0 and parameters shown in the inputs, it sees neither T nor E: all outcomes are
        equally likely.
        """
        if window == 0 and self.parameters != "fixed":
            return uniform_log_predictive(batch.inputs.shape[0], at, self.outcomes)
        chain, log_evidence_BTS = self._seen(tables, batch)
        before = window - 1 + self._blind if window else 0  # symbols seen before the one at `at`
        log_state_BPS = log_filter_last(jnp.log(chain.transition), log_evidence_BTS, at, before)
        if window:
            log_state_BPS = self._with_target(log_state_BPS, log_evidence_BTS, at)
        return self._predict(log_state_BPS, chain)

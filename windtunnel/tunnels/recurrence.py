"""`recurrence` (select): a sequence follows a linear recurrence or is random. Does it follow a rule, and which one?

In the shapes of this file, p is the residues modulo p.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from windtunnel.spec import spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, uniform_log_predictive
from windtunnel.tunnels.finite import Finite, FiniteTables

PRIMES = [n for n in range(2, 102) if all(n % divisor for divisor in range(2, n))]


def _prime(modulus: int) -> int:
    if modulus not in PRIMES:
        raise PydanticCustomError("prime", "should be a prime number")
    return modulus


@spec
class Recurrence(Finite):
    """With probability ½ the sequence is a program: x_{t+1} = a x_t + b mod p from a uniform x_1, with a and b uniform
    and p prime. Otherwise it is chance: its symbols are i.i.d. uniform. Predict each symbol after the first.

    If K of the p² programs agree with the n symbols seen (K = p², p, then mostly 1 or 0), and q is the distribution of
    their next symbol,

        P(program | x) / P(chance | x) = K p^(n−3),      p(v | x) = P(program | x) q(v) + P(chance | x) / p.

    Two symbols that differ and the one after them determine the program, since differences follow d_{t+1} = a d_t. So
    the two classes can be distinguished from the fourth symbol on. Entropy is log₂ p until then; afterwards it is
    nearly 0 for a program and stays log₂ p for chance.

    The tokens are a start (p) and then the symbols; observation t is the symbol that follows token t+1. With p = 5,
    `0 1 3` is (a, b) = (2, 1) or chance with equal probability, so p(2) = ½ + ½ · ⅕; after `0 1 3 2` a program is 5
    times as likely. Hypotheses are rows (1, a, b), and (0, 0, 0) for chance.
    """

    name: Literal["recurrence"] = "recurrence"
    modulus: Annotated[int, Field(ge=PRIMES[0], le=PRIMES[-1]), AfterValidator(_prime)] = 7

    hypothesis = "program"
    size = "modulus"
    # A modulus that is not prime is refused elsewhere; here it has the number of the next prime.
    count = staticmethod(lambda modulus: min(p for p in PRIMES if p >= modulus) ** 2 + 1)

    @property
    def outcomes(self) -> int:
        return self.modulus

    @property
    def vocabulary(self) -> int:
        return self.modulus + 1

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.outcomes)

    @property
    def start(self) -> int:
        return self.modulus

    def tokens(self, observations: int) -> int:
        return observations + 1

    def scored(self, observations: int) -> np.ndarray:
        return np.arange(observations) + 1

    def tabulate(self, observations: int) -> Array:
        """[p]: the inverse of each symbol modulo p, and 0 for 0."""
        return jnp.asarray([0, *(pow(symbol, -1, self.modulus) for symbol in range(1, self.modulus))])

    def support(self) -> tuple[Array, Array]:
        """All programs, ordered by a and b, then chance."""
        p = self.modulus
        program_H3 = [(1, a, b) for a in range(p) for b in range(p)]
        log_prior_H = np.log([1 / (2 * p**2)] * p**2 + [1 / 2])
        return jnp.asarray([*program_H3, (0, 0, 0)]), jnp.asarray(log_prior_H, jnp.result_type(float))

    def draw(self, key: Array, own: Array, count: int) -> Array:
        key_class, key_program = jax.random.split(key)
        # Always drawn in int32, so that the pool does not depend on the precision.
        is_program_H1 = jax.random.randint(key_class, (count, 1), 0, 2, jnp.int32)
        program_H2 = jax.random.randint(key_program, (count, 2), 0, self.modulus, jnp.int32)
        return is_program_H1 * jnp.pad(program_H2, ((0, 0), (1, 0)), constant_values=1)

    def emit(self, key: Array, hypothesis: Array, own: Array, observations: int) -> Batch:
        chance_T = jax.random.randint(key, (observations + 1,), 0, self.modulus)

        def step(symbol: Array, _: None) -> tuple[Array, Array]:
            return (hypothesis[1] * symbol + hypothesis[2]) % self.modulus, symbol

        _, program_T = jax.lax.scan(step, chance_T[0], length=observations + 1)
        symbol_T = jnp.where(hypothesis[0] > 0, program_T, chance_T)
        inputs = jnp.concatenate([jnp.full(1, self.modulus, symbol_T.dtype), symbol_T[:-1]])
        return Batch(inputs, symbol_T[1:], jnp.ones(observations))

    def _successors(self, hypotheses: Array, symbol_BP: Array) -> tuple[Array, Array]:
        """Which hypotheses are programs [1, 1, H], and the symbol that each predicts after each symbol [B, P, H]."""
        is_program, a, b = (column[None, None] for column in hypotheses.T)
        return is_program > 0, (a * symbol_BP[:, :, None] + b) % self.modulus

    def log_channel(self, hypotheses: Array, batch: Batch, at: Array) -> Array:
        """[B, P, H, V]: a program is certain of one symbol; chance is uniform."""
        is_program_11H, next_BPH = self._successors(hypotheses, batch.inputs[:, 1:][:, at])
        log_p_BPHV = jnp.where(jax.nn.one_hot(next_BPH, self.modulus, dtype=bool), 0.0, -jnp.inf)
        return jnp.where(is_program_11H[..., None], log_p_BPHV, -jnp.log(float(self.modulus)))

    def log_seen(self, hypotheses: Array, batch: Batch) -> Array:
        """[B, T, H]: computed without an axis of outcomes, which would be long here."""
        is_program_11H, next_BTH = self._successors(hypotheses, batch.inputs[:, 1:])
        log_p_BTH = jnp.where(next_BTH == batch.outcome_BP[:, :, None], 0.0, -jnp.inf)
        return jnp.where(is_program_11H, log_p_BTH, -jnp.log(float(self.modulus)))

    def frame(self, tables: FiniteTables, batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.outcomes)

    def log_exact(self, own: Array, batch: Batch, at: Array) -> Array:
        return self._last(own, batch, at, batch.outcome_BP.shape[1])

    def log_last(self, tables: FiniteTables, batch: Batch, at: Array, window: int) -> Array:
        """A reasoner that sees the last transitions, and knows whether there were others before."""
        return self._last(tables.own, batch, at, window)

    def _last(self, inverse_p: Array, batch: Batch, at: Array, window: int) -> Array:
        """[B, P, V]: the predictive of a reasoner that sees the last `window` transitions, that is window + 1 symbols.

        If there is a past that it does not see, the window's first symbol is evidence. It is uniform under every
        program except those with a = 0, whose symbols are all b from the second on. So a = 0 weighs p times as much if
        all symbols in the window are equal, and is impossible if two differ.
        """
        p, log_p = self.modulus, float(np.log(self.modulus))
        symbol_BT = batch.inputs[:, 1:]
        step_BT = (symbol_BT - _shift(symbol_BT)) % p
        # After two steps the third is the square of the second divided by the first; a step of 0 is followed by 0.
        next_step_BT = step_BT * (step_BT * inverse_p[_shift(step_BT)] % p) % p
        broken_BT = jnp.cumsum(step_BT != _shift(next_step_BT), axis=1)

        start_P = jnp.maximum(at - window, 0)
        seen_BP = jnp.broadcast_to((at - start_P + 1)[None], (symbol_BT.shape[0], len(at)))  # symbols
        hidden_BP = jnp.broadcast_to((start_P > 0)[None], seen_BP.shape)
        first_P, second_P = (jnp.minimum(start_P + i, at) for i in (1, 2))  # steps of the window
        moves_BP, moves_on_BP = step_BT[:, first_P] != 0, step_BT[:, second_P] != 0
        still_BP = ~moves_BP & (seen_BP > 1)
        # The first two steps determine a, if any is consistent with them; each later step follows from the two before.
        determined_BP = (moves_BP == moves_on_BP) | (moves_BP & ~hidden_BP)
        agree_BP = determined_BP & (broken_BT[:, at] == broken_BT[:, second_P])

        # K, if any program agrees: the number of programs with a ≠ 0, plus the weight of those with a = 0.
        many_BP = jnp.where(still_BP, jnp.where(hidden_BP, 2 * p - 1, p), jnp.where(hidden_BP, p - 1, p))
        many_BP = jnp.select([seen_BP == 1, still_BP | (seen_BP == 2)], [jnp.full_like(many_BP, p**2), many_BP], 1)
        log_odds_BP = jnp.where(agree_BP, jnp.log(many_BP) + (seen_BP - 3) * log_p, -jnp.inf)

        # q: until a is known any symbol can follow, but if two differ and a ≠ 0, no symbol can be followed by itself.
        known_BP = still_BP | (seen_BP > 2)
        next_BP = jnp.where(known_BP, symbol_BT[:, at] + next_step_BT[:, at], symbol_BT[:, at]) % p
        log_next_BP = jnp.where(known_BP, 0.0, jnp.where(hidden_BP, -jnp.inf, -log_p))
        log_other_BP = jnp.where(known_BP, -jnp.inf, jnp.where(hidden_BP, -jnp.log(p - 1.0), -log_p))
        # If one symbol of a longer past is seen, the programs with a = 0 (1 in p) repeat it; the others are as above.
        lone_BP = hidden_BP & (seen_BP == 1)
        log_next_BP = jnp.where(lone_BP, float(np.log(2 * p - 1)) - 2 * log_p, log_next_BP)
        log_other_BP = jnp.where(lone_BP, float(np.log(p - 1)) - 2 * log_p, log_other_BP)
        is_next_BPV = jax.nn.one_hot(next_BP, p, dtype=bool)
        log_program_BPV = jnp.where(is_next_BPV, log_next_BP[..., None], log_other_BP[..., None])
        return jnp.logaddexp(
            jax.nn.log_sigmoid(log_odds_BP)[..., None] + log_program_BPV,
            jax.nn.log_sigmoid(-log_odds_BP)[..., None] - log_p,
        )

    def baselines(self, tables: FiniteTables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`prior` does not see the current symbol either: all are alike, but for programs with a = 0, which say b."""
        seen = super().baselines(tables, batch, at, horizon)
        prior_BPV = uniform_log_predictive(batch.inputs.shape[0], at, self.modulus)
        if self.pool is not None:
            prior_BPV = jnp.broadcast_to(self._log_unseen(tables.pool)[None, None], prior_BPV.shape)
        return {**seen, "prior": prior_BPV}

    def _log_unseen(self, pool_M3: Array) -> Array:
        """[V]: any symbol but the first, when nothing was seen, of a reasoner that knows the pool."""
        is_constant_M = (pool_M3[:, 0] > 0) & (pool_M3[:, 1] == 0)
        says_MV = jax.nn.one_hot(pool_M3[:, 2], self.modulus)
        return jnp.log(jnp.mean(jnp.where(is_constant_M[:, None], says_MV, 1 / self.modulus), axis=0))

    def log_entering(self, hypotheses: Array, batch: Batch, start: Array) -> Array:
        """[B, P, H]: a window that has a past begins with a symbol that is uniform, but for programs with a = 0, which
        say b; the first symbol of a sequence is uniform.
        """
        is_program_H, a_H, b_H = hypotheses.T
        symbol_BP = batch.inputs[:, 1:][:, start]
        is_b_BPH = symbol_BP[:, :, None] == b_H[None, None]
        constant_PH = ((is_program_H > 0) & (a_H == 0))[None] & (start > 0)[:, None]
        said_BPH = jnp.where(is_b_BPH, 0.0, -jnp.inf)
        return jnp.where(constant_PH[None], said_BPH, -jnp.log(float(self.modulus)))


def _shift(values_BT: Array) -> Array:
    """The values of the previous token; 0 at the first."""
    return jnp.pad(values_BT, ((0, 0), (1, 0)))[:, :-1]

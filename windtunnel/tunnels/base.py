"""The contract of tunnels. A tunnel knows no model: it draws sequences and computes the exact predictive for them."""

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from windtunnel.priors import Prior
from windtunnel.tunnels.answers import Frame, Law

Tables = Any  # what `prepare` returned, a pytree of arrays: each tunnel narrows it to a type of its own


class Batch(NamedTuple):
    """B sequences of `tokens(observations)` inputs and, per observation, an outcome to predict.

    The exact reasoners read `inputs` and nothing else, so they see exactly what the model sees.
    """

    inputs: Array  # int32[B, T], or float32[B, T, F]
    outcome_BP: Array  # int32: the outcome drawn at each observation
    weight_BP: Array  # float32: 1 where the prediction is scored, 0 where it is not


class Tunnel:
    """The contract. Observations count from 1, positions `at` are their indices from 0.

    Static facts: `features` F (0 when inputs are tokens), `vocabulary` (0 when inputs are features), `outcomes` V,
    `capacity` (the longest possible sequence in observations, None if there is no limit), `hypotheses` (their exact
    number, or inf) and `hypothesis` (a word for one of them). If a field determines the number of hypotheses, `size` is
    its name and `count` the function from the field to the number, so that users can set `tunnel.hypotheses=…` instead.
    `limit_bits` is the limit of the exact predictive's mean entropy, where a closed form is known. `recursive`: the
    posterior after an observation is computed from the posterior before it, not from a table of counts.
    """

    hypothesis: str
    recursive: ClassVar[bool] = False
    independent: bool = False  # whether outcomes are independent given one hypothesis that holds for the sequence
    weighs_far: ClassVar[bool] = True  # whether `token_weights` is fast enough far past the horizon
    size: ClassVar[str | None] = None
    pool: int | None = None  # the number of hypotheses in the pool that the data come from, if any (`finite.py`)

    @staticmethod
    def count(_: int, /) -> int:
        raise NotImplementedError

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def features(self) -> int:
        return 0

    @property
    def vocabulary(self) -> int:
        return 0

    @property
    def outcomes(self) -> int:
        raise NotImplementedError

    @property
    def hypotheses(self) -> float:
        return math.inf if self.size is None else self.count(getattr(self, self.size))

    @property
    def capacity(self) -> int | None:
        return None

    @property
    def conflict(self) -> str | None:
        """What is wrong between fields that are valid each by itself, as `key=value: …`; None if nothing is."""
        return None

    @property
    def lag_prior(self) -> Prior | None:
        """The prior over the lag (how many observations back the answer lies), if the lag is to be inferred."""
        return None

    @property
    def limit_bits(self) -> float | None:
        return None

    @property
    def outcome_tokens(self) -> np.ndarray | None:
        """int[V]: the token by which sequences show each outcome afterwards; None where they never do."""
        return None

    @property
    def start(self) -> int | None:
        """The token before the first observation, if there is one."""
        return None

    @property
    def exchangeable(self) -> bool:
        """Whether the tokens after the start are outcomes that may come in any order: what was predicted is exact, if
        it is, whatever the order.
        """
        return False

    @property
    def actions(self) -> int:
        """How many actions an agent can choose from at each observation (`acting.py`); 0: there is nothing to do."""
        return 0

    @property
    def header(self) -> int:
        """Tokens before the first symbol."""
        return 0

    def tokens(self, observations: int) -> int:
        """The length T of the input that holds so many observations, headers included."""
        return observations

    def scored(self, observations: int) -> np.ndarray:
        """int[observations]: the token at which each observation's outcome is predicted."""
        return np.arange(observations)

    def words(self, inputs: np.ndarray) -> list[str]:
        """A label for each token of one sequence (int[T] or float[T, F]), for people; relative to the last token."""
        return [str(token) if inputs.ndim == 1 else "" for token in inputs]

    def prepare(self, observations: int) -> Tables:
        """The tables that are computed once per study, outside the step loop, for at most `observations`."""
        return ()

    def sample(self, key: Array, tables: Tables, batch: int, observations: int) -> Batch:
        """Draw `batch` sequences. Pure and jittable."""
        raise NotImplementedError

    def log_predictive(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """[B, P, V]: exact log-probability (nats) of each outcome, given what the model has seen at `at`."""
        raise NotImplementedError

    def log_full_predictive(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """[B, P, V]: the predictive of the reasoner that knows the prior but not the pool, if there is a pool."""
        return self.log_predictive(tables, batch, at)

    def log_posterior(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """[B, P, H]: exact log-posterior (nats) over hypotheses. For instruments and `verify`: H can be large."""
        raise NotImplementedError

    def log_mixture(self, tables: Tables, batch: Batch, at: Array) -> Array:
        """[B, P, V]: log Σ_h P(h | seen) p(v | h), if hypotheses can be listed: `log_predictive` computed
        another way.
        """
        raise NotImplementedError

    def log_given(self, tables: Tables, batch: Batch, at: Array) -> Array | None:
        """[B, P, S, V]: the log-probability of each outcome if the hidden state were known to be s, whatever was seen;
        None where no few states are hidden.
        """
        return None

    def log_last(self, tables: Tables, batch: Batch, at: Array, window: int) -> Array:
        """[B, P, V]: the predictive of a reasoner that sees only the last `window` observations, marginalising the
        rest.
        """
        raise NotImplementedError

    def baselines(self, tables: Tables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """{name: [B, P, V]}: the predictives of reasoners that see less: exact for what they see, marginalising the
        rest.

        `prior` has seen nothing, `last-w` the last w observations (`windows`); some tunnels add `content-only` and
        `position-only`.
        """
        seen = {"prior": 0, **self.windows(horizon)}
        return {name: self.log_last(tables, batch, at, w) for name, w in seen.items()}

    def windows(self, horizon: int) -> dict[str, int]:
        """The windows w of the reasoners that see less: powers of two below the horizon, and the horizon itself. They
        are `last-w` where `log_last` is exact for what it sees. Where that has no closed form they are `cut-w`, which
        take their window for a sequence of its own: their KL bounds that of `last-w` from above, and so the headroom.
        """
        kind = "last" if self.marginalises else "cut"
        powers = [2**i for i in range(horizon.bit_length()) if 2**i < horizon]
        return {**{f"{kind}-{w}": w for w in powers}, f"{kind}-horizon": horizon}

    @property
    def marginalises(self) -> bool:
        """Whether `log_last` sums over all that could have come before its window."""
        return True

    def log_restarted(self, symbol_BT: Array, at: Array, of_BPV: Array) -> Array | None:
        """[B, P, S, V]: the log-probability, at the observations `at`, of the symbols `of`, if its sequence had begun
        at observation s ≤ at, of S = T; the rest is not read. None where it takes no part in runs that begin anywhere
        (`runs.py`).
        """
        return None

    def token_weights(self, tables: Tables, batch: Batch, at: Array) -> Array | None:
        """[B, P, T]: the log-weight that exact inference gives to each token at the observations `at`; a row of −∞
        where no token matters yet. Attention is compared with it. None if the posterior is not a weighting of tokens.
        """
        return None

    def frame(self, tables: Tables, batch: Batch) -> Frame | None:
        """The hypotheses that keys should distinguish; None where tokens are points of a continuum."""
        return None

    @property
    def domain_count(self) -> int:
        """K, how many domains `log_domains` tells apart; 0 where there are none."""
        return 0

    def log_domains(self, tables: Tables, batch: Batch, at: Array) -> Array | None:
        """[B, P, K]: the log-posterior over the K domains of a mixed prompt; None where there are none."""
        return None

    def asked(self, batch: Batch, at: Array) -> Array | None:
        """int[B, P]: how many hops each question asks for; None where questions ask for none."""
        return None

    def asking(self, hops: int) -> "Tunnel | None":
        """The tunnel whose questions ask for up to so many hops, and else are the same."""
        return None

    def law(self, observations: int) -> Law | None:
        """The law by which exact inference converges within so many observations; None where none is known."""
        return None

    def excess_bits(self, seen: np.ndarray) -> np.ndarray | None:
        """E[H(predictive)] minus its limit (bits) after `seen` observations, if that has a closed form."""
        return None

    def reordered(self, key: Array, inputs_BT: Array) -> Array | None:
        """[B, T]: inputs with the same evidence in another order, each drawn uniformly of those that are known to be
        equally likely, for the prediction at the last token; None where order matters.
        """
        return shuffled(key, inputs_BT, 1) if self.exchangeable else None

    def exchanged(self, batch: Batch, order: Array) -> Batch | None:
        """The batch in which hypothesis j has the key of `order[j]`, if inputs contain the keys of hypotheses."""
        return None

    def aleatoric(self, tables: Tables, batch: Batch, at: Array) -> Array | None:
        """[B, P]: E[H(o | h)] over the posterior (nats): the uncertainty that would be left if the hypothesis were
        known, where that has a closed form. What is above it in the predictive's entropy is epistemic.
        """
        return None

    @property
    def channels(self) -> dict[str, tuple[Array, Array]] | None:
        """Where a cue comes through several channels: {name: (the levels of its noise [L], their exact gains [L])}."""
        return None

    def log_weighed(self, tables: Tables, batch: Batch, at: Array, gains: dict[str, Array]) -> Array:
        """[B, P, V]: the predictive of a reasoner that multiplies the evidence of each channel by these gains [L]."""
        raise NotImplementedError

    def crossed(self, batch: Batch) -> Batch | None:
        """The batch with its channels in conflict, if there are several."""
        return None


def uniform(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """Uniform draws from [0, 1), drawn flat: XLA unrolls the generator over a short last axis, and compiles for
    seconds.
    """
    return jax.lax.optimization_barrier(jax.random.uniform(key, (math.prod(shape),), dtype)).reshape(shape)


def shuffled(key: Array, x_BT: Array, first: int) -> Array:
    """[B, T]: each row's entries from `first` on in an order of its own."""
    order_BS = jnp.argsort(uniform(key, (len(x_BT), x_BT.shape[1] - first)), axis=1)
    return x_BT.at[:, first:].set(jnp.take_along_axis(x_BT[:, first:], order_BS, axis=1))


def running_logsumexp(log_x: Array, axis: int, reverse: bool = False) -> Array:
    """The logsumexp of the entries up to each one along an axis (in reverse: from each one on), one after another.
    `lax.cumlogsumexp` is a tree whose inner sums XLA works out on a CPU again for every entry.
    """

    def step(log_sum: Array, log_next: Array) -> tuple[Array, Array]:
        log_sum = jnp.logaddexp(log_sum, log_next)
        return log_sum, log_sum

    first = jnp.moveaxis(log_x, axis, 0)
    _, log_sums = jax.lax.scan(step, jnp.full_like(first[0], -jnp.inf), first, reverse=reverse)
    return jnp.moveaxis(log_sums, 0, axis)


def log_uniform(allowed: Array) -> Array:
    """Log-probabilities of the uniform distribution over the allowed entries of the last axis."""
    count = jnp.sum(allowed, axis=-1, keepdims=True)
    return jnp.where(allowed, -jnp.log(count.astype(jnp.result_type(float))), -jnp.inf)


def uniform_log_predictive(batch: int, at: Array, outcomes: int) -> Array:
    """[B, P, V]: log 1/V everywhere."""
    return jnp.full((batch, at.shape[0], outcomes), -jnp.log(float(outcomes)))

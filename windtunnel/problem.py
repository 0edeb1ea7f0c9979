"""The problem: what is asked, without the model that answers.

A tunnel, a horizon and how one is judged settle everything that a verdict holds a model against: the sequences, which
observations are scored, and what exact reasoners say there. A study is a problem, a model and how it is trained; a
model from outside is a problem and its predictions.

Three ways to point into a sequence, each with its own name: an observation is numbered from 1 (`Bin.scored`), `at` is
its index from 0 (what tunnels take), and a token is an index into the inputs (what models take).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from pydantic import Field

from windtunnel.bins import Bins, bins
from windtunnel.spec import Size, digest, identity, spec
from windtunnel.tunnels import AnyTunnel, Batch

EVALUATION = 2**31 - 1  # the stream of evaluation keys: training uses 0, 1, 2


@spec
class Evaluate:
    """How a model is judged: on `examples` sequences of `reach` × horizon observations, drawn from a seed that no
    training uses, the same for every study. While a bin that decides is open, sequences are added, up to
    `most_examples`. τ (`tolerance`, bits) is what counts as exact and δ (`settled`, bits) what counts as converged.
    Where questions ask for a number of hops, curves over it go on to `hops`, beyond what training asked for.
    """

    reach: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    examples: Annotated[int, Field(ge=2, lt=2**31)] = 64
    most_examples: Annotated[int, Field(ge=2, le=2**20)] = 1024
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    settled: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    hops: Annotated[int, Field(ge=1, le=64)] | None = None


class Exact(NamedTuple):
    """What exact reasoners say of the evaluation sequences, at the P scored observations."""

    log_predictive: Any  # [B, P, V] nats; arrays of JAX, or of numpy once they are worked out
    full: Any  # None, or the same of a reasoner that does not know the pool, where there is one
    baselines: dict[str, Any]  # each [B, P, V] nats
    outcome: Any  # int32[B, P]
    weight: Any  # [B, P]
    asked: Any = None  # int32[B, P]: the hops that each question asks for, if it does
    log_domains: Any = None  # [B, P, K] nats: the posterior over the domains of a mixed prompt, if it is one


@spec
class Problem:
    """A tunnel, the training horizon in observations, and how a model is judged."""

    tunnel: AnyTunnel
    horizon: Size
    evaluate: Evaluate = Evaluate()

    @property
    def length(self) -> int:
        """The longest evaluated sequence, in observations."""
        return round(self.horizon * self.evaluate.reach)

    @property
    def bins(self) -> Bins:
        return bins(self.horizon, self.length)

    @property
    def tokens(self) -> np.ndarray:
        """int[P]: the tokens at which the scored outcomes are predicted."""
        return self.tunnel.scored(self.length)[self.bins.at]

    @property
    def farther(self) -> "Problem | None":
        """The same sequences with questions of up to `evaluate.hops` hops, where these are to be judged too."""
        if self.evaluate.hops is None:
            return None
        tunnel = self.tunnel.asking(self.evaluate.hops)
        assert tunnel is not None  # the door made sure
        return replace(self, tunnel=tunnel, evaluate=replace(self.evaluate, hops=None))

    @property
    def id(self) -> str:
        """A name for the problem: a hash of everything that it is made of."""
        return digest([identity(self.tunnel), identity(self.evaluate), self.horizon])

    @property
    def key(self) -> Array:
        """The root of the keys that evaluation sequences are drawn from, each by its number."""
        return jax.random.fold_in(jax.random.key(self.evaluate.seed), EVALUATION)

    def exact(self) -> Exact:
        """The oracle's answers about all evaluation sequences."""
        at = jnp.asarray(self.bins.at)
        tables = self.tunnel.prepare(self.length)

        def one(batch: Batch) -> Exact:
            return Exact(
                self.tunnel.log_predictive(tables, batch, at),
                self.tunnel.log_full_predictive(tables, batch, at) if self.tunnel.pool else None,
                self.tunnel.baselines(tables, batch, at, self.horizon),
                batch.outcome_BP[:, at],
                batch.weight_BP[:, at],
                self.tunnel.asked(batch, at),
                self.tunnel.log_domains(tables, batch, at),
            )

        return self.each(one, jnp.arange(self.evaluate.examples))

    def answers(self, numbers: Array) -> tuple[Array, Array]:
        """[B, P, V] and [B, P]: the exact predictive (nats) of the evaluation sequences of these numbers, any numbers,
        and the weights of the predictions.
        """
        at = jnp.asarray(self.bins.at)
        tables = self.tunnel.prepare(self.length)
        return self.each(lambda batch: (self.tunnel.log_predictive(tables, batch, at), batch.weight_BP[:, at]), numbers)

    def each(self, function: Callable[..., Any], numbers: Array, *beside: Array) -> Any:
        """Apply `function` to the evaluation sequences of these numbers in turn, as batches of one, and put the results
        together. A sequence is made, read and forgotten, so memory does not grow with how many there are. What stands
        `beside` the sequences, [B, …], is given with each.
        """
        tables = self.tunnel.prepare(self.length)
        root = self.key

        def one(of_sequence: tuple[Array, ...]) -> Any:
            number, *others = of_sequence
            batch = self.tunnel.sample(jax.random.fold_in(root, number), tables, 1, self.length)
            return jax.tree.map(lambda leaf: leaf[0], function(batch, *(other[None] for other in others)))

        return lax.map(one, (numbers, *beside))


exact_program = jax.jit(Problem.exact)
answers_program = jax.jit(Problem.answers)

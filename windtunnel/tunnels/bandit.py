"""`bandit` (accumulate): which of several arms pays most often, from pulls that somebody else chose?

In the shapes of this file, K is the arms, R the two rewards, N the number of pulls and M the nodes of a quadrature.
"""

import math
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln, logsumexp, xlog1py, xlogy
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Knob, Positive, spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, uniform

CAPACITY = 256  # pulls: the tables over counts and nodes take 70 MB
SHARPNESS = (1, 2, 3)  # of the baselines that know the means of arms and not how often each was pulled


class BanditTables(NamedTuple):
    """The posterior of one arm after n pulls, s of them rewarded, at the nodes of a quadrature: its log-density and
    log-probability of being smaller, [n, s ≤ n, M]; the logarithms of the nodes and of their weights [M]; and, where
    behaviour is informed, [N, n]: the log-likelihood of N choices, n of them of one arm, if that is the best.
    """

    log_density_NNM: Array
    log_below_NNM: Array
    log_node_M: Array
    log_weight_M: Array
    log_choices_NN: Array | None


@spec
class Bandit(Tunnel):
    """K arms reward with probabilities θ_k ~ U(0, 1) = Beta(1, 1), independently. Predict the best arm, argmax θ, from
    the pulls so far. After n_k pulls of arm k, s_k of them rewarded, θ_k has the density f_k of Beta(1 + s_k, 1 + n_k −
    s_k) and the distribution function F_k, and

        P(arm i is best) = ∫ f_i(x) Π_{j≠i} F_j(x) dx.

    The integrand is a polynomial of degree N + K − 1, N = Σ n_k, so Gauss–Legendre with (N + K)/2 nodes is exact, and
    all of its terms are positive.

    Behaviour: every sequence pulls arms at random with frequencies of its own, drawn from Dirichlet(evenness, …,
    evenness), which say nothing of θ. If `informed` is ρ, somebody who knows θ takes the best arm with probability ρ at
    each pull; then choices are evidence too, and the exact reasoner weighs them (`Bandit.log_choices`). One's own
    choices are none, even if they look alike: the baseline `interventions` is exact for those.

    Token t is pull t, 2k + reward; token 0 is a start, 2K. With K = 2, after one pull of the first arm, which was
    rewarded, it is the best with probability ∫ 2x·x dx = ⅔.
    """

    name: Literal["bandit"] = "bandit"
    arms: Annotated[int, Field(ge=2, le=16)] = 2
    evenness: Positive = 0.3
    informed: Annotated[float, Field(gt=0, lt=1), Knob] | None = None

    hypothesis = "arms' probabilities"

    @property
    def outcomes(self) -> int:
        return self.arms

    @property
    def actions(self) -> int:
        return self.arms

    @property
    def vocabulary(self) -> int:
        return 2 * self.arms + 1

    @property
    def start(self) -> int:
        return 2 * self.arms

    @property
    def capacity(self) -> int:
        return CAPACITY

    def words(self, inputs: np.ndarray) -> list[str]:
        """`B+`: the second arm was pulled, and rewarded."""
        arm = "ABCDEFGHIJKLMNOP"
        return ["start" if token == self.start else f"{arm[token // 2]}{'-+'[token % 2]}" for token in inputs]

    def prepare(self, observations: int) -> BanditTables:
        nodes = (observations + self.arms + 1) // 2  # for one degree more: that of a mean
        node_M, weight_M = np.polynomial.legendre.leggauss(nodes)  # on [−1, 1]
        log_x_M, log_rest_M = (jnp.asarray(np.log((1 + side * node_M) / 2), float)[None] for side in (1, -1))

        def pull(log_p_NM: Array, none: float) -> Array:
            """From the log-probabilities of s rewards (or of at least s) in n pulls to those in n + 1."""
            fewer_NM = jnp.pad(log_p_NM[:-1], ((1, 0), (0, 0)), constant_values=none)
            return jnp.logaddexp(log_rest_M + log_p_NM, log_x_M + fewer_NM)

        def row(carry: tuple[Array, Array], n: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            log_exactly_NM, log_least_NM = carry
            more = pull(log_exactly_NM, -jnp.inf), pull(log_least_NM, 0.0)
            # P(θ ≤ x) after n pulls, s rewarded, is that of more than s rewards in n + 1 pulls at x.
            return more, (jnp.log1p(n) + log_exactly_NM[:-1], more[1][1:])

        nothing_NM = jnp.full((observations + 2, len(node_M)), -jnp.inf).at[0].set(0.0)
        # One pull more than are seen: what it would show is asked for.
        _, (density, below) = lax.scan(row, (nothing_NM, nothing_NM), jnp.arange(observations + 1, dtype=float))
        choices = None if self.informed is None else self.log_choices(observations, self.informed)
        return BanditTables(density, below, log_x_M[0], jnp.asarray(np.log(weight_M / 2), float), choices)

    def log_choices(self, observations: int, informed: Array | float) -> Array:
        """[N, n]: log-likelihood of N choices, n of them of arm i, if that is the best, up to what is the same for all
        arms; ρ is `informed`, α `evenness`. Any j of the n choices may have been informed, the others a Pólya urn's:

            Σ_j C(n, j) ρ^j (1−ρ)^(N−j) · Γ(Kα) / Γ(Kα + N − j) · Γ(α + n − j) / Γ(α + n).
        """
        count = np.arange(observations)
        n_NN, j_NN = count[:, None], count[None]
        rest_NN = np.maximum(n_NN - j_NN, 0)
        log_ways_NN = jnp.asarray(_log_binomials(observations - 1), float)
        alpha = self.evenness
        log_urn_NN = log_ways_NN + gammaln(alpha + rest_NN) - gammaln(alpha + n_NN)

        def row(total: Array) -> Array:
            others_N = jnp.maximum(total - count, 0).astype(float)
            log_any_N = xlog1py(others_N, -informed) - gammaln(self.arms * alpha + others_N)
            return logsumexp(log_urn_NN + (xlogy(count, informed) + log_any_N)[None], axis=1)

        return lax.map(row, jnp.asarray(count))

    def sample(self, key: Array, tables: BanditTables, batch: int, observations: int) -> Batch:
        key_often, key_rest = jax.random.split(key)
        often_BK = jax.nn.softmax(jax.random.loggamma(key_often, self.evenness, (batch, self.arms)), axis=-1)
        drawn = uniform(key_rest, (batch, self.arms + 3 * (observations - 1)))
        theta_BK, drawn_B3N = drawn[:, : self.arms], drawn[:, self.arms :].reshape(batch, 3, observations - 1)
        best_B = jnp.argmax(theta_BK, axis=1).astype(jnp.int32)
        below_BNK = drawn_B3N[:, 0, :, None] >= jnp.cumsum(often_BK, axis=1)[:, None, :-1]
        arm_BN = jnp.sum(below_BNK, axis=-1, dtype=jnp.int32)
        if self.informed is not None:
            arm_BN = jnp.where(drawn_B3N[:, 1] < self.informed, best_B[:, None], arm_BN)
        reward_BN = drawn_B3N[:, 2] < jnp.take_along_axis(theta_BK, arm_BN, axis=1)
        inputs_BT = jnp.pad(2 * arm_BN + reward_BN, ((0, 0), (1, 0)), constant_values=self.start)
        outcome_BP = jnp.broadcast_to(best_B[:, None], inputs_BT.shape)
        return Batch(inputs_BT, outcome_BP, jnp.ones(inputs_BT.shape))

    def pulls(self, inputs_BT: Array, at: Array, window: int) -> Array:
        """int[B, P, K, R]: how often each arm did not and did reward, in the last `window` pulls before `at`."""
        one_hot_BTV = jax.nn.one_hot(inputs_BT, 2 * self.arms, dtype=jnp.int32)  # the start has no 1
        total_BTV = jnp.cumsum(one_hot_BTV, axis=1, dtype=jnp.int32)
        pulls_BPV = total_BTV[:, at] - total_BTV[:, jnp.maximum(at - window, 0)]
        return pulls_BPV.reshape(*pulls_BPV.shape[:2], self.arms, 2)

    def log_best(self, tables: BanditTables, pulls_BPKR: Array, informed: bool = False) -> Array:
        """[B, P, K]: log P(arm is best), from rewards alone or, if `informed`, from the choice of arms too."""
        log_best_BPK = logsumexp(self._log_terms(tables, pulls_BPKR), axis=-1)
        if informed and tables.log_choices_NN is not None:
            n_BPK = jnp.sum(pulls_BPKR, axis=-1)
            log_best_BPK += tables.log_choices_NN[jnp.sum(n_BPK, axis=-1, keepdims=True), n_BPK]
        return jax.nn.log_softmax(log_best_BPK, axis=-1)

    def _log_terms(self, tables: BanditTables, pulls_BPKR: Array) -> Array:
        """[B, P, K, M]: the logarithms of w f_i Π_{j≠i} F_j at the nodes, which sum to P(arm i is best)."""
        n_BPK, s_BPK = jnp.sum(pulls_BPKR, axis=-1), pulls_BPKR[..., 1]
        log_below_BPKM = tables.log_below_NNM[n_BPK, s_BPK]
        log_others_BPKM = jnp.sum(log_below_BPKM, axis=2, keepdims=True) - log_below_BPKM
        return tables.log_density_NNM[n_BPK, s_BPK] + log_others_BPKM + tables.log_weight_M[None, None, None]

    def log_rewards(self, tables: BanditTables, batch: Batch, at: Array) -> Array:
        """[B, P, K, R]: the log-probabilities of no reward and of one, of each arm if it is pulled next at somebody
        else's wish. That is its mean: (s + 1) / (n + 2), or with `informed` choices, which say which arm is the best,

            Σ_i P(i is best | all) E[θ_k | i is best, rewards],     E[θ_k; i is best] = ∫ f_i m_k F⁺_k Π_{j≠i,k} F_j dx

        for k ≠ i, with F⁺ that of an arm pulled and rewarded once more, and ∫ x f_i Π_{j≠i} F_j dx for k = i.
        """
        pulls_BPKR = self.pulls(batch.inputs, at, batch.inputs.shape[1])
        n_BPK, s_BPK = jnp.sum(pulls_BPKR, axis=-1), pulls_BPKR[..., 1]
        log_mean_BPK = jnp.log((s_BPK + 1.0) / (n_BPK + 2))
        if tables.log_choices_NN is None:
            return jnp.stack([jnp.log1p(-jnp.exp(log_mean_BPK)), log_mean_BPK], axis=-1)
        log_below_BPKM = tables.log_below_NNM[n_BPK, s_BPK]
        log_more_BPKM = log_mean_BPK[..., None] + tables.log_below_NNM[n_BPK + 1, s_BPK + 1] - log_below_BPKM
        itself_KK1 = jnp.eye(self.arms, dtype=bool)[:, :, None]  # the best arm, the one that is pulled
        log_more_BPKKM = jnp.where(itself_KK1[None, None], tables.log_node_M, log_more_BPKM[:, :, None])
        log_best_BPKM = self._log_terms(tables, pulls_BPKR)
        log_mass_BPKK = logsumexp(log_best_BPKM[:, :, :, None] + log_more_BPKKM, axis=-1)
        log_choices_BPK = tables.log_choices_NN[jnp.sum(n_BPK, axis=-1, keepdims=True), n_BPK]
        log_all_BP1 = logsumexp(logsumexp(log_best_BPKM, axis=-1) + log_choices_BPK, axis=-1, keepdims=True)
        log_reward_BPK = logsumexp(log_mass_BPKK + log_choices_BPK[..., None], axis=2) - log_all_BP1
        return jnp.stack([jnp.log1p(-jnp.exp(log_reward_BPK)), log_reward_BPK], axis=-1)

    def log_predictive(self, tables: BanditTables, batch: Batch, at: Array) -> Array:
        return self.log_last(tables, batch, at, batch.inputs.shape[1])

    def log_last(self, tables: BanditTables, batch: Batch, at: Array, window: int) -> Array:
        """Pulls that are not seen sum to one, whatever the arms."""
        return self.log_best(tables, self.pulls(batch.inputs, at, window), informed=True)

    def baselines(self, tables: BanditTables, batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """Beside `last-w`, reasoners that know each arm's posterior mean m_k and not how often it was pulled:
        `equal-pulls` is exact if all arms were pulled equally often; `softmax-mean-c` says p_k ∝ exp(c √(N/K + 2) m_k),
        which is about as sharp as a posterior after N/K pulls each. With `informed`, `interventions` takes choices for
        its own, and so for no evidence.
        """
        pulls_BPKR = self.pulls(batch.inputs, at, batch.inputs.shape[1])
        n_BPK, s_BPK = jnp.sum(pulls_BPKR, axis=-1), pulls_BPKR[..., 1]
        share_BP1 = jnp.sum(n_BPK, axis=-1, keepdims=True) // self.arms
        # (share + 2) × mean, rounded in whole numbers, is 1 + the rewards of an arm with that share and that mean.
        rewards_BPK = (2 * (share_BP1 + 2) * (s_BPK + 1) + n_BPK + 2) // (2 * (n_BPK + 2)) - 1
        rewards_BPK = jnp.clip(rewards_BPK, 0, share_BP1)
        equal_BPKR = jnp.stack([share_BP1 - rewards_BPK, rewards_BPK], axis=-1)
        score_BPK = jnp.sqrt(share_BP1 + 2.0) * (s_BPK + 1) / (n_BPK + 2)
        blind = {
            "equal-pulls": self.log_best(tables, equal_BPKR),
            **{f"softmax-mean-{c}": jax.nn.log_softmax(c * score_BPK, axis=-1) for c in SHARPNESS},
        }
        if self.informed is not None:
            blind["interventions"] = self.log_best(tables, pulls_BPKR)
        return {**super().baselines(tables, batch, at, horizon), **blind}

    def token_weights(self, tables: BanditTables, batch: Batch, at: Array) -> Array:
        """Order does not matter, so all pulls have equal weight."""
        tokens = jnp.arange(batch.inputs.shape[1])
        seen_PT = (tokens[None] <= at[:, None]) & (tokens[None] > 0)
        return answers.evenly(jnp.broadcast_to(seen_PT[None], (len(batch.inputs), *seen_PT.shape)))

    def frame(self, tables: BanditTables, batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, 2 * self.arms)


def _log_binomials(most: int) -> np.ndarray:
    """[n, j]: log C(n, j), −inf for j > n."""
    table = np.full((most + 1, most + 1), -np.inf)
    for n in range(most + 1):
        table[n, : n + 1] = [math.log(math.comb(n, j)) for j in range(n + 1)]
    return table

"""`tree` (accumulate, at several scales): the leaves of a tree in order, each a noisy copy of what its ancestors were.

In the shapes of this file, k is the symbols, and M the nodes of a height. Heights count from the leaves, which are 0.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, xlog1py, xlogy
from jaxtyping import Array
from pydantic import Field

from windtunnel.spec import Noise, spec
from windtunnel.tunnels import answers
from windtunnel.tunnels.answers import Frame
from windtunnel.tunnels.base import Batch, Tunnel, uniform, uniform_log_predictive


@spec
class Tree(Tunnel):
    """A complete binary tree with a symbol at every node. The root's is uniform over k; along each edge the symbol
    stays with probability 1 − ε, or becomes one of the k − 1 others. Predict each leaf from those before it. Leaf t is
    below node t >> h of height h, so the shape is known from the position; and as every node by itself is uniform, it
    does not matter how high the tree is.

    Exact by sum–product. With E the channel of an edge, a finished subtree says of its root

        u_0(x) = 1[x = leaf],    u_h+1 = (E u_h of the left child) · (E u_h of the right child),

    and leaf t is predicted down its path, from a uniform b: where bit h of t is set, the left sibling at height h is
    finished; so b ← Eᵀ(b · E u_h of that sibling), else b ← Eᵀb. At most log₂ t messages are needed, one a height.

    Token t is leaf t − 1, token 0 is a start (k). With k = 2 and ε = ¼, after a leaf 0 the next is its sibling: it is 0
    with probability ¾² + ¼² = 5/8.
    """

    name: Literal["tree"] = "tree"
    symbols: Annotated[int, Field(ge=2, le=100)] = 4
    noise: Noise = 0.05

    hypothesis = "tree of symbols"

    @property
    def outcomes(self) -> int:
        return self.symbols

    @property
    def vocabulary(self) -> int:
        return self.symbols + 1

    @property
    def outcome_tokens(self) -> np.ndarray:
        return np.arange(self.outcomes)

    @property
    def start(self) -> int:
        return self.symbols

    def sample(self, key: Array, tables: tuple[()], batch: int, observations: int) -> Batch:
        key_root, key = jax.random.split(key)
        node_BM = jax.random.randint(key_root, (batch, 1), 0, self.symbols)
        for height in range(heights(observations)):
            drawn = uniform(jax.random.fold_in(key, height), (batch, 2 * node_BM.shape[1], 2))
            other = 1 + jnp.minimum((drawn[..., 1] * (self.symbols - 1)).astype(jnp.int32), self.symbols - 2)
            node_BM = (jnp.repeat(node_BM, 2, axis=1) + jnp.where(drawn[..., 0] < self.noise, other, 0)) % self.symbols
        leaf_BT = node_BM[:, :observations]
        start_B1 = jnp.full((batch, 1), self.symbols, jnp.int32)
        inputs = jnp.concatenate([start_B1, leaf_BT[:, :-1]], axis=1)
        return Batch(inputs, leaf_BT, jnp.ones(leaf_BT.shape))

    def _through(self, log_k: Array) -> Array:
        """log Σ_y E(x, y) exp(log_k(y)): a message, or a belief, across an edge. E is symmetric."""
        stays, other = xlog1py(1.0, -self.noise), xlogy(1.0, self.noise) - jnp.log(self.symbols - 1.0)
        log_channel_kk = jnp.where(jnp.eye(self.symbols, dtype=bool), stays, other)
        return logsumexp(log_k[..., None, :] + log_channel_kk.reshape((1,) * (log_k.ndim - 1) + (-1, self.symbols)), -1)

    def _messages(self, batch: Batch) -> list[Array]:
        """[B, M, k] for each height: what a node's leaves say of its symbol; nothing where they are not all seen."""
        leaf_BT = batch.inputs[:, 1:]
        observations = batch.inputs.shape[1]
        missing = 2 ** heights(observations) - leaf_BT.shape[1]
        seen_BM1 = jnp.pad(jnp.ones(leaf_BT.shape, bool), ((0, 0), (0, missing)))[..., None]
        one_hot = jnp.pad(leaf_BT, ((0, 0), (0, missing)))[..., None] == jnp.arange(self.symbols)[None, None]
        message_BMk = jnp.where(one_hot | ~seen_BM1, 0.0, -jnp.inf)
        messages = [message_BMk]
        while message_BMk.shape[1] > 1:
            across_BMk = self._through(message_BMk)
            message_BMk = across_BMk[:, ::2] + across_BMk[:, 1::2]
            message_BMk -= jnp.max(message_BMk, axis=-1, keepdims=True)  # only ratios matter
            messages.append(message_BMk)
        return messages

    def log_predictive(self, tables: tuple[()], batch: Batch, at: Array) -> Array:
        return self._predict(self._messages(batch), batch, at, jnp.zeros_like(at))

    def log_last(self, tables: tuple[()], batch: Batch, at: Array, window: int) -> Array:
        return self._predict(self._messages(batch), batch, at, jnp.maximum(at - window, 0))

    def _predict(self, messages: list[Array], batch: Batch, at: Array, first: Array) -> Array:
        """[B, P, k]: the predictive of leaf `at` of a reasoner that sees the leaves from `first` on. One finished
        subtree at most is seen in part: its message is built from leaf `first` upwards, past siblings on its right.
        """
        top = len(messages) - 1
        part_BPk, parts = messages[0][:, first], []
        for height in range(top):
            parts.append(part_BPk)
            node_P = first >> height
            right_BPk = messages[height][:, jnp.minimum(node_P + 1, messages[height].shape[1] - 1)]
            right_BPk = jnp.where((node_P % 2 == 0)[None, :, None], self._through(right_BPk), 0.0)
            part_BPk = self._through(part_BPk) + right_BPk
        belief_BPk = uniform_log_predictive(len(batch.inputs), at, self.symbols)
        for height in reversed(range(top)):
            sibling_P = jnp.maximum((at >> height) - 1, 0)
            begins_P = sibling_P << height
            ends_P = begins_P + 2**height
            message_BPk = jnp.where((begins_P >= first)[None, :, None], messages[height][:, sibling_P], parts[height])
            seen_P = ((at >> height) % 2 == 1) & (ends_P > first)
            message_BPk = jnp.where(seen_P[None, :, None], self._through(message_BPk), 0.0)
            belief_BPk = jax.nn.log_softmax(self._through(belief_BPk + message_BPk), axis=-1)
        return belief_BPk

    def baselines(self, tables: tuple[()], batch: Batch, at: Array, horizon: int) -> dict[str, Array]:
        """`levels-h` sees only the leaves below its ancestor of height h: messages from higher up are cut. It is exact
        for what it sees, since that ancestor by itself is uniform.
        """
        windows = {"prior": 0, **self.windows(horizon)}
        first = {name: jnp.maximum(at - window, 0) for name, window in windows.items()}
        first |= {f"levels-{h}": (at >> h) << h for h in range(1, heights(horizon) + 1)}
        messages = self._messages(batch)
        answer = jax.vmap(lambda first_P: self._predict(messages, batch, at, first_P))  # compiled once for all
        return dict(zip(first, answer(jnp.stack(list(first.values()))), strict=True))

    def frame(self, tables: tuple[()], batch: Batch) -> Frame:
        return answers.symbols(batch.inputs, self.symbols)


def heights(leaves: int) -> int:
    """The height of the lowest tree with so many leaves."""
    return max(leaves - 1, 0).bit_length()

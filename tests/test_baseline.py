"""The PyTorch baseline of the benchmarks is the same model, data and optimiser. Needs the extra `bench`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.composed import study
from windtunnel import train
from windtunnel.optimizers import optimizer
from windtunnel.spec import arrays
from windtunnel.tunnels import Batch

torch = pytest.importorskip("torch")
from baseline import training, transformer  # noqa: E402 (they need torch)

SYMBOLS, BATCH = 5, 16


@pytest.fixture(scope="module")
def both_models():
    """A study, its start with every parameter moved (so that no gradient is zero), and the same in PyTorch."""
    shape = "model.layers=2 model.heads=2 model.width=16 model.hidden=64".split()
    knobs = ["train.steps=20", f"train.batch={BATCH}", "seed=3"]
    ours = arrays(study("tunnel=bijection", f"tunnel.symbols={SYMBOLS}", *shape, *knobs))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape).astype(np.float32), jax.jit(train.start)(ours).params
    )
    theirs = training.Training(SYMBOLS, 2, 2, 16, BATCH, 20)
    theirs.model.load(params)
    return ours, params, theirs


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return training.sample(BATCH, SYMBOLS, torch.Generator().manual_seed(0)).numpy()


def batch_of(tokens: np.ndarray) -> Batch:
    """With the last outcome, which is never an input: any will do, since nothing may depend on it."""
    value_BP = np.concatenate([tokens[:, 1::2] - SYMBOLS, np.zeros((len(tokens), 1), int)], axis=1)
    return Batch(jnp.asarray(tokens, jnp.int32), jnp.asarray(value_BP, jnp.int32), jnp.ones(value_BP.shape))


def assert_same(ours, theirs, atol: float = 2e-5) -> None:
    flat = transformer.converted(ours)
    assert flat.keys() == theirs.keys()
    for name, value in flat.items():
        np.testing.assert_allclose(value, theirs[name].detach(), atol=atol * float(value.abs().max()), err_msg=name)


def test_data_are_bijections_and_judged_alike(both_models, tokens):
    ours, _, _ = both_models
    p = training.exact(torch.from_numpy(tokens), SYMBOLS).numpy()
    expected = jnp.exp(ours.tunnel.log_predictive(ours.tunnel.prepare(SYMBOLS), batch_of(tokens), jnp.arange(SYMBOLS)))
    np.testing.assert_allclose(p, expected, atol=1e-6)
    drawn = training.sample(6000, 3, torch.Generator().manual_seed(1)).numpy()
    kinds, count = np.unique(drawn, axis=0, return_counts=True)
    assert len(kinds) == 36  # 3! orders of keys × 3! bijections, the last value left out: it follows
    assert abs(count - 6000 / 36).max() < 5 * (6000 / 36) ** 0.5


def test_same_logits_loss_and_gradients(both_models, tokens):
    ours, params, theirs = both_models
    batch = batch_of(tokens)

    def loss(params):
        model = train.model(ours, params)
        total, weight = train.measured(ours, ours.tunnel.prepare(SYMBOLS), batch, model)["cross_entropy"]
        return total / weight, model(batch.inputs, ours.tunnel.scored(SYMBOLS))

    (expected, logits_BPV), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    theirs.model.load(params)
    inputs = torch.from_numpy(tokens)
    np.testing.assert_allclose(logits_BPV, theirs.model(inputs).detach(), atol=2e-5)
    got = theirs._loss(inputs, training.exact(inputs, SYMBOLS))
    assert abs(float(got.detach()) - float(expected)) < 1e-5
    got.backward()
    assert_same(gradients, {name: parameter.grad for name, parameter in theirs.model.named_parameters()})


def test_same_steps_of_the_optimiser(both_models):
    """Four steps on the same gradients, large and small: clipped and not, along the schedule from its start."""
    ours, params, theirs = both_models
    theirs.model.load(params)
    names = {id(p): name for name, p in theirs.model.named_parameters()}
    transformation = optimizer(ours.train)
    memory, update = transformation.init(params), jax.jit(transformation.update)
    random = np.random.default_rng(0)
    for step, size in enumerate((3.0, 0.001, 0.3, 1.0)):
        gradients = jax.tree.map(lambda leaf, s=size: s * random.normal(size=leaf.shape).astype(np.float32), params)
        gradients["layers"]["1"]["attention"]["learned"]["table"] *= 0  # positions are added once, below all layers
        updates, memory = update(gradients, memory, params)
        params = optax.apply_updates(params, updates)
        flat = transformer.converted(gradients)
        rate = torch.tensor(theirs.rate(step))
        theirs.optimizer.step([flat[names[id(p)]] for p in theirs.optimizer.parameters], rate)
        assert_same(params, dict(theirs.model.named_parameters()), atol=2e-5)


@pytest.mark.slow
def test_same_learning_curve(both_models):
    """As statistics: both reach the same loss, from starts and on data of their own."""
    ours, _, _ = both_models
    _, curves = jax.jit(partial(train.advance, ours, train.prepare(ours)))(jax.jit(train.start)(ours), jnp.int32(20))
    start = training.Training(SYMBOLS, 2, 2, 16, BATCH, 20)
    entropy = np.mean(np.log(np.arange(SYMBOLS, 0, -1)))
    theirs_bits = (start.advance(20).numpy() - entropy) / np.log(2)
    assert abs(np.log(theirs_bits[-5:].mean() / np.asarray(curves["kl_bits"])[15:20].mean())) < 0.5

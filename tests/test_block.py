"""The block `bayesian_attention` is a translation: it sets up the study that somebody could have written out."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests import commanded
from tests.composed import study
from tests.foreign import forgotten
from windtunnel import block, presets
from windtunnel.config import study_id
from windtunnel.errors import BadInput
from windtunnel.instruments.geometry import orthogonality, welch
from windtunnel.priors import Prior
from windtunnel.spec import names
from windtunnel.sweep.notice import lines, unreachable

DEFAULT = "+bayesian_attention=default"
DEPTH = "{max_iterations: 100, tolerance: 1e-4}"
RMS = "monitor.orthogonality_rms"
WHOLE = [f"{RMS}=0.95", "model.width=256", "position=generalized_gaussian", "position.beta=1.5"]
SHORT = "bayesian_attention."
EQUAL = [
    ([DEFAULT], ["model=adaptive", *WHOLE, "position.scale=6.4"]),
    ([DEFAULT, "model=adaptive"], ["model=adaptive", *WHOLE, "position.scale=6.4"]),
    (  # 0.1 × 28 is 2.8000000000000003, and nobody would write that
        [DEFAULT, "tunnel=die"],
        ["tunnel=die", *WHOLE, f"model.depth={DEPTH}", "model.loops=4", "position.scale=2.8"],
    ),
    (
        [DEFAULT, "tunnel=hmm_far", "train.horizon=30"],
        ["tunnel=hmm_far", *WHOLE, f"model.depth={DEPTH}", "model.loops=4", "position.scale=3", "train.horizon=30"],
    ),
    (  # two tokens an observation, and the horizon is all that the tunnel holds
        [f"{SHORT}prior_type=gaussian", f"{SHORT}prior_params.scale=0.5", "tunnel=bijection", "tunnel.symbols=8"],
        ["tunnel=bijection", "tunnel.symbols=8", "position=gaussian", "position.scale=8"],
    ),
    ([f"{SHORT}prior_params.beta=1"], ["position.beta=1"]),
    (["bayesian_attention={prior_type: uniform}"], ["position=uniform"]),
    ([f"{SHORT}hypothesis_space.dimension=96", "tunnel=hmm", "model=memory"], ["tunnel=hmm", "model=memory",
                                                                            "model.width=96"]),
    ([f"{SHORT}convergence.tolerance=1e-3", "tunnel=die", "model.loops=1"],
     ["tunnel=die", "model.depth={tolerance: 1e-3}", "model.loops=1"]),
    ([f"{SHORT}convergence.max_iterations=9", "model=feedback_adaptive"],
     ["model=feedback_adaptive", "model.depth.max_iterations=9"]),
    ([DEFAULT, *WHOLE, "position.scale=6.4", "model.depth=" + DEPTH],  # said twice, and the same
     ["model=adaptive", *WHOLE, "position.scale=6.4"]),
    ([DEFAULT, f"{SHORT}prior_params.beta=0.5", "position.learn=false"],
     ["model=adaptive", "model.width=256", "position.scale=6.4", "position.learn=false", f"{RMS}=0.95"]),
    ([f"{SHORT}hypothesis_space.orthogonality_threshold=0.5"], [f"{RMS}=0.5"]),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "written"), EQUAL, ids=[" ".join(typed)[:60] for typed, _ in EQUAL])
def test_it_is_the_study_written_out(typed, written):
    assert study(*typed) == study(*written) and study_id(study(*typed)) == study_id(study(*written))


def test_what_it_repeats_is_what_is_there():
    assert [*block.FIELDS] == names(Prior) and study("model=adaptive").model.loops == block.LOOPS
    literal = block.Block.__annotations__["prior_type"].__args__[0].__args__
    assert list(literal) == names(Prior)
    assert "bayesian_attention" in presets.ADDED and "default" in presets.choices("bayesian_attention")


REFUSED = [
    ("position=rope", "position=rope: bayesian_attention.prior_type=generalized_gaussian sets it to generalized_g"),
    ("~position", "position=null: bayesian_attention.prior_type=generalized_gaussian sets it"),
    ("position.scale=10", "position.scale=10: bayesian_attention.prior_params.scale=0.1 sets it to 6.4; give one"),
    ("position.beta=0.5", "position.beta=0.5: bayesian_attention.prior_params.beta=1.5 sets it to 1.5"),
    ("model.width=64", "model.width=64: bayesian_attention.hypothesis_space.dimension=256 sets it to 256"),
    ("model.depth=null", "model.depth.max_iterations=null: bayesian_attention.convergence.max_iterations=100 sets"),
    ("model=adaptive model.depth.tolerance=0.1", "model.depth.tolerance=0.1: bayesian_attention.convergence.toler"),
    ("monitor.orthogonality_rms=0.5", "orthogonality_rms=0.5: bayesian_attention.hypothesis_space.orthogonality_thr"),
    ("model=gru", "bayesian_attention.prior_type=generalized_gaussian: model gru takes no position; give "),
    ("model=feedback_adaptive", "model feedback takes no position; give bayesian_attention.prior_type=null"),
    ("model=gru bayesian_attention.prior_type=null bayesian_attention.prior_params=null",
     "bayesian_attention.hypothesis_space.dimension=256: model gru has no attention, and so no keys"),
    ("model=memory bayesian_attention.prior_type=null bayesian_attention.prior_params=null",
     "bayesian_attention.convergence.max_iterations=100: model memory does not iterate (valid with model=adaptive"),
    ("model.heads=3", "bayesian_attention.hypothesis_space.dimension=256: should be a multiple of model.heads=3"),
    ("bayesian_attention.prior_type=gaussian", "bayesian_attention.prior_params.beta=1.5: prior_type=gaussian has"),
    ("bayesian_attention.prior_type=null tunnel=die", "prior_params.beta=1.5: position=uniform has none; give bay"),
    ("bayesian_attention.prior_type=rope", "should be 'uniform', 'gaussian' or 'generalized_gaussian'"),
    ("bayesian_attention.prior_params.scale=0", "bayesian_attention.prior_params.scale=0: should be greater than 0"),
    ("bayesian_attention.prior_params.scale=true", "bayesian_attention.prior_params.scale=true: should be a number"),
    ("bayesian_attention.hypothesis_space.orthogonality_threshold=1.5", "threshold=1.5: should be less than or eq"),
    ("bayesian_attention.hypothesis_space.dimension=2.5", "hypothesis_space.dimension=2.5: should be a valid integ"),
    ("bayesian_attention.convergence.max_iterations=0", "should be greater than or equal to 1"),
    ("bayesian_attention.prior_parms.beta=1", "bayesian_attention.prior_parms: no such name; did you mean prior_par"),
    ("+bayesian_attention.mine=1", "bayesian_attention.mine: no such name; valid: prior_type, prior_params, "),
    ("bayesian_attention.prior_params=1", "bayesian_attention.prior_params=1: should be a"),
    ("train.horizon=null", "train.horizon=null: bayesian_attention.prior_params.scale=0.1 is in horizons; give one"),
    ("tunnel.noise=0.7", "tunnel.noise=0.7: should be less than or equal to 0.5"),
    ("-m seed=0,1 position=uniform", "position=uniform: bayesian_attention.prior_type=generalized_gaussian sets it"),
    ("+sweep=extrapolation", "position=uniform: bayesian_attention.prior_type=generalized_gaussian sets it"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words[:50] for words, _ in REFUSED])
def test_what_contradicts_it_or_has_no_place_is_one_line(tmp_path, words, message):
    code, out, err = commanded.windtunnel(tmp_path, "run", DEFAULT, *words.split())
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
    assert err.startswith("windtunnel: ") and not list(tmp_path.iterdir())


SEED = """\
bayesian_attention:
  prior_type: "generalized_gaussian"
  prior_params:
    beta: 1.5
    scale: 0.1
  hypothesis_space:
    dimension: 256
    orthogonality_threshold: 0.95
  convergence:
    max_iterations: 100
    tolerance: 1e-4
"""
GLOBAL = "# @package _global_\n"
OWN = {
    "as a sweep": ("sweep/mine.yaml", GLOBAL + SEED, "+sweep=mine"),
    "as a tunnel": ("tunnel/mine.yaml", f"{GLOBAL}defaults: [recall, _self_]\n{SEED}", "tunnel=mine"),
    "as a block": ("bayesian_attention/mine.yaml", GLOBAL + SEED, "+bayesian_attention=mine"),
    "as part of one": ("bayesian_attention/mine.yaml", "defaults: [default, _self_]\n", "+bayesian_attention=mine"),
}


def of_own(tmp_path: Path, monkeypatch, file: str, content: str, *words: str):
    """How the command ends, and the studies that it would train, with a file of the user's own."""
    (tmp_path / "my" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "my" / file).write_text(content)
    ran: list = []
    monkeypatch.setattr("windtunnel.sweep.run.run", lambda points, *rest: ran.extend(points) or True)
    with forgotten():
        ended = commanded.windtunnel(tmp_path, "run", "--config-dir", "my", *words)
    return ended, [point.study for point in ran]


@pytest.mark.parametrize("how", OWN)
def test_in_a_file_of_the_users_own(tmp_path, monkeypatch, how):
    file, content, word = OWN[how]
    (code, out, err), studies = of_own(tmp_path, monkeypatch, file, content, word)
    assert code == 0 and studies == [study(DEFAULT)], err
    assert "scale 0.1 horizons = 6.4 observations" in out
    (code, _, err), _ = of_own(tmp_path, monkeypatch, file, content, word, "position=alibi")
    assert code == 2 and "position=alibi: bayesian_attention.prior_type=generalized_gaussian sets it" in err


def contradicting(defaults: str, body: str) -> str:
    return f"{GLOBAL}defaults:\n  - override /position: {defaults}\n  - _self_\n{body}{SEED}"


BESIDE = [
    ("alibi", "", "position=alibi: bayesian_attention.prior_type="),
    ("generalized_gaussian", "position: {scale: 5.0}\n", "position.scale=5: bayesian_attention.prior_params.scale=0.1"),
    ("generalized_gaussian", "model: {width: 128}\n", "model.width=128: bayesian_attention.hypothesis_space.dimension"),
    ("generalized_gaussian", "", None),
]


@pytest.mark.parametrize(("position", "body", "message"), BESIDE)
@pytest.mark.parametrize("tunnel", ["recall", "die"])
def test_what_contradicts_it_in_the_same_file(tmp_path, monkeypatch, position, body, message, tunnel):
    """Whether or not the tunnel's preset has that position too: what a preset says contradicts nothing."""
    content = contradicting(position, body)
    (code, _, err), studies = of_own(
        tmp_path, monkeypatch, "sweep/mine.yaml", content, "+sweep=mine", f"tunnel={tunnel}"
    )
    if message is None:
        assert code == 0 and studies == [study(DEFAULT, f"tunnel={tunnel}")], err
    else:
        assert code == 2 and message in err and err.count("\n") == 1


def test_a_preset_that_a_file_chooses_contradicts_nothing(tmp_path, monkeypatch):
    content = f"{GLOBAL}defaults:\n  - override /model: small\n{SEED}"
    (code, _, err), studies = of_own(tmp_path, monkeypatch, "sweep/mine.yaml", content, "+sweep=mine")
    assert code == 0 and studies == [study(DEFAULT, "model=small")], err


def test_it_is_swept_like_any_other_key(tmp_path, monkeypatch):
    words = ["-m", DEFAULT, "bayesian_attention.prior_params.scale=0.1,0.5,1,2,4", "train.horizon=16,32"]
    monkeypatch.setattr("windtunnel.sweep.run.run", lambda points, *rest: ran.extend(points) or True)
    ran: list = []
    code, out, err = commanded.windtunnel(tmp_path, "run", *words)
    assert code == 0, err
    scales = [(point.study.horizon, float(point.study.position.scale)) for point in ran]
    assert scales == [(h, float(f"{s * h:g}")) for s in (0.1, 0.5, 1, 2, 4) for h in (16, 32)]
    assert ran[0].overrides == {"bayesian_attention.prior_params.scale": "0.1", "train.horizon": "16"}
    assert "… and " in out and out.count("\n") == 5, "what is said stays short"


def given(*typed: str):
    from windtunnel.block import values

    settled = {"prior_params": {"scale": 0.1}, "hypothesis_space": {"dimension": 64}}
    return lines(values(settled), study(*typed))


def test_the_unit_is_said():
    assert "scale 0.156 horizons = 10 observations, where learning starts" in given()[0]
    assert "= 5 observations = 10 tokens," in given("tunnel=regression", "position=gaussian")[0], "two tokens each"
    assert "learning" not in given("position.learn=false")[0] and "keys of 32 dimensions in each of 2" in given()[0]


@pytest.mark.parametrize("d", [2, 3, 8])
def test_the_bound_is_that_of_welch(d):
    """A simplex of d + 1 directions meets it; d of them can be orthogonal; no random ones beat it."""
    simplex = np.eye(d + 1) - 1 / (d + 1)
    assert math.isclose(welch(d + 1, d), 1 / d)
    assert math.isclose(orthogonality(simplex[None])["rms_cos"], welch(d + 1, d))
    assert welch(d, d) == welch(1, d) == 0
    for n in (d + 1, 2 * d, 5 * d):
        drawn = np.random.default_rng(n).normal(size=(20, n, d))
        assert min(orthogonality(one[None])["rms_cos"] for one in drawn) >= welch(n, d)


@pytest.mark.parametrize(
    ("typed", "threshold", "said"),
    [
        ([], 0.95, f"64 stored pairs in 32 dimensions have an RMS cosine of at least {welch(64, 32):.3f} (Welch)"),
        ([], 0.87, None),
        (["model.width=128"], 0.999, None),  # as many dimensions as pairs
        (["tunnel=die", "model.width=16"], 0.95, "10 symbols in 8 dimensions have an RMS cosine of at least 0.167"),
        (["tunnel=hmm_far"], 0.99, None),
        (["tunnel=permutation"], 0.99, None),
        (["tunnel=regression"], 0.1, "applies to nothing: tokens of regression stand for no hypotheses"),
        (["model=adaptive"], 0.1, "applies to nothing: model transformer with adaptive depth shows no attention"),
    ],
)  # fmt: skip
def test_a_threshold_that_no_keys_can_meet_is_named_with_its_bound(typed, threshold, said):
    line = unreachable(study(*typed, f"{RMS}={threshold}", "monitor.every=10"))
    assert (line == []) if said is None else (len(line) == 1 and said in line[0])


def test_a_threshold_that_nobody_looks_at_is_named_too():
    assert unreachable(study()) == [] and "is looked at with monitor.every=N" in unreachable(study(f"{RMS}=0.5"))[0]


def test_from_python():
    with pytest.raises(BadInput, match=r"position=rope: bayesian_attention\.prior_type"):
        study(DEFAULT, "position=rope")

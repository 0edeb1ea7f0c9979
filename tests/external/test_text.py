"""Problems as text: a prompt holds what the exact reasoner has seen, and nothing more."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.composed import study
from windtunnel.errors import BadInput
from windtunnel.external import Text
from windtunnel.external.commands import export

TUNNELS = {
    "urn": "tunnel=urn",
    "markov": "tunnel=markov tunnel.order=2",
    "die": "tunnel=die",
    "bijection": "tunnel=bijection tunnel.symbols=12 evaluate.reach=1",
    "replacement": "tunnel=bijection_replacement tunnel.symbols=8",
    "permutation": "tunnel=permutation tunnel.symbols=5",
    "recurrence": "tunnel=recurrence",
    "echo": "tunnel=echo",
    "mixture": "tunnel=mixture",
    "segments": "tunnel=mixture_segments",
    "hmm": "tunnel=hmm tunnel.parameters=fixed tunnel.target=symbol",
}
FORMS = (Text(), Text(symbols="numbers", separator=", "), Text(separator="\n", start=False))


def sampled(overrides):
    """A problem of 12 observations, and the inputs and outcomes of three of its sequences."""
    problem = study(*overrides.split(), "train.horizon=12", "evaluate.reach=1", "evaluate.examples=3").problem
    tunnel, length = problem.tunnel, problem.length
    batch = jax.jit(lambda: tunnel.sample(problem.key, tunnel.prepare(length), 3, length))()
    return problem, np.asarray(batch.inputs), np.asarray(batch.outcome_BP)[:, problem.bins.at]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "mixture")) for name in TUNNELS]
)
def test_a_prompt_holds_the_tokens_that_the_exact_reasoner_has_seen(name):
    problem, inputs, outcome = sampled(TUNNELS[name])
    for form in FORMS:
        words, continuations = form.words(problem), form.continuations(problem)
        token_of = {word: token for token, word in enumerate(words)}
        skipped = not form.start and problem.tunnel.start is not None
        for sequence, drawn, prompt in zip(inputs, outcome, form.prompts(problem, inputs), strict=True):
            assert len(prompt.ends) == len(problem.tokens) and prompt.ends == sorted(prompt.ends)
            for token, end, o in zip(problem.tokens, prompt.ends, drawn, strict=True):
                seen = prompt.text[:end].split(form.separator)
                if skipped:
                    assert seen[0] == ""
                read = [problem.tunnel.start, *(token_of[word] for word in seen[1:])] if skipped else None
                assert (read or [token_of[word] for word in seen]) == sequence[: token + 1].tolist()
                follows = prompt.text[end:]
                shown = token + 1 < len(sequence) and sequence[token + 1] == problem.tunnel.outcome_tokens[o]
                if name != "segments":  # where the last outcome of a segment is never written
                    assert shown == (token + 1 < len(sequence))
                if shown:
                    assert follows.startswith(continuations[o])
                    assert follows[len(continuations[o]) :].startswith(form.separator) or follows == continuations[o]


def test_what_the_reasoner_predicts_depends_on_the_prompt_alone():
    """Other symbols after a prompt's end change no prompt before it, and no exact answer there."""
    problem, inputs, _ = sampled(TUNNELS["markov"])
    tunnel, at = problem.tunnel, jnp.asarray(problem.bins.at[:5])
    tables = tunnel.prepare(problem.length)
    changed = inputs.copy()
    changed[:, problem.tokens[4] + 1 :] = (changed[:, problem.tokens[4] + 1 :] + 1) % 3
    one, other = Text().prompts(problem, inputs)[0], Text().prompts(problem, changed)[0]
    assert one.text != other.text and one.text[: one.ends[4]] == other.text[: other.ends[4]]

    @jax.jit
    def exact(inputs):
        batch = tunnel.sample(problem.key, tables, 3, problem.length)
        return tunnel.log_predictive(tables, batch._replace(inputs=jnp.asarray(inputs)), at)

    np.testing.assert_array_equal(exact(inputs), exact(changed))


@pytest.mark.parametrize(
    ("overrides", "form", "expected"),
    [
        ("tunnel=recall", {}, "text: the inputs of tunnel=recall are features"),
        ("tunnel=hmm", {}, "text: the inputs of tunnel=hmm are features"),
        ("tunnel=hmm_tokens", {}, "text: what tunnel=hmm predicts is never written in its sequences"),
        ("tunnel=bijection tunnel.symbols=27", {}, "54 tokens are more than there are letters; use numbers"),
        ("tunnel=die", {"symbols": "numbers", "separator": ""}, "'1' could also be the beginning of '10'"),
        ("tunnel=urn", {"symbols": ("a b", "c", "d")}, "text.symbols: 'a b' contains the separator ' '"),
        ("tunnel=urn", {"symbols": ("a", "b", "a")}, "has 2 different words; tunnel=urn has 3 tokens"),
        ("tunnel=urn", {"symbols": ("a", "b", "")}, "text.symbols"),
    ],
)
def test_what_has_no_text_or_could_be_read_in_two_ways(overrides, form, expected):
    with pytest.raises(BadInput) as caught:
        Text(**form).words(study(*overrides.split()).problem)
    assert expected in str(caught.value)


def test_words_of_ones_own_and_no_separator():
    problem, inputs, outcome = sampled(TUNNELS["urn"])
    form = Text(symbols=("tails ", "heads ", "toss: "), separator="")
    prompt = form.prompts(problem, inputs)[0]
    assert prompt.text.startswith("toss: ") and prompt.text[prompt.ends[0] :].startswith(
        ("tails ", "heads ")[outcome[0, 0]]
    )


def test_prompts_in_the_folder(tmp_path):
    words = "tunnel=urn train.horizon=4 evaluate.reach=2 evaluate.examples=2 tunnel.hypotheses=10".split()
    form = ["text.symbols=[tails,heads,go]", "text.separator=|", "text.start=false"]
    export([*words, f"to={tmp_path / 'x'}", *form])
    about = json.loads((tmp_path / "x" / "problem.json").read_text())
    assert about["text"] == {
        "symbols": ["tails", "heads", "go"],
        "separator": "|",
        "start": False,
        "words": ["tails", "heads", "go"],
        "continuations": ["|tails", "|heads"],
    }
    rows = [json.loads(line) for line in (tmp_path / "x" / "prompts.jsonl").read_text().splitlines()]
    with np.load(tmp_path / "x" / "evaluation.npz") as asked:
        for row, outcome in zip(rows, asked["outcome"], strict=True):
            for end, o in zip(row["ends"][:-1], outcome, strict=False):
                assert row["text"][end:].startswith(about["text"]["continuations"][o])
            assert len(row["text"]) == row["ends"][-1] and row["ends"][0] == 0

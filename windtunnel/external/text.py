"""Sequences of tokens as text, for models that read language in context."""

import itertools
import string
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pydantic
import pydantic.dataclasses
from pydantic import Field

from windtunnel.errors import BadInput
from windtunnel.problem import Problem

START = "start"  # the word of a start


class Prompt(NamedTuple):
    """One sequence. The outcome p is predicted after `text[: ends[p]]`, and what continues it is one of the problem's
    `continuations`.
    """

    text: str
    ends: list[int]


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Text:
    """How tokens are written. `symbols`: `letters` (outcomes A, B, C …, other tokens a, b, c …), `numbers` (every token
    as its number), or a word for every token of the vocabulary. Words are joined by `separator`. With `start` false,
    the token before the first observation is not written: the first prompt is empty, and each observation follows its
    separator.
    """

    symbols: Literal["letters", "numbers"] | tuple[str, ...] = "letters"
    separator: Annotated[str, Field(max_length=8)] = " "
    start: bool = True

    def words(self, problem: Problem) -> list[str]:
        """The word of each token of the vocabulary; `BadInput` where the tunnel has no text."""
        tunnel = problem.tunnel
        if tunnel.features:
            raise BadInput(f"text: the inputs of tunnel={tunnel.name} are features, not tokens; they have no text")
        if tunnel.outcome_tokens is None:
            raise BadInput(f"text: what tunnel={tunnel.name} predicts is never written in its sequences")
        count, outcomes = tunnel.vocabulary, [int(token) for token in tunnel.outcome_tokens]
        if self.symbols == "numbers":
            words = [str(token) for token in range(count)]
        elif self.symbols == "letters":
            others = [token for token in range(count) if token not in outcomes and token != tunnel.start]
            if max(len(outcomes), len(others)) > len(string.ascii_uppercase):
                raise BadInput(f"text.symbols=letters: {count} tokens are more than there are letters; use numbers")
            words = [START] * count
            for tokens, letters in ((outcomes, string.ascii_uppercase), (others, string.ascii_lowercase)):
                for token, letter in zip(tokens, letters, strict=False):
                    words[token] = letter
        else:
            words = list(self.symbols)
        if len(words) != count or len(set(words)) != count or not all(words):
            raise BadInput(
                f"text.symbols: has {len(set(words))} different words; tunnel={tunnel.name} has {count} tokens"
            )
        self._readable(words)
        return words

    def _readable(self, words: list[str]) -> None:
        """Refuse words that could be read in two ways once they are joined."""
        if self.separator:
            for word in words:
                if self.separator in word:
                    raise BadInput(f"text.symbols: {word!r} contains the separator {self.separator!r}")
            return
        ordered = sorted(words)  # a word comes right before those that it begins
        for one, other in itertools.pairwise(ordered):
            if other.startswith(one):
                raise BadInput(f"text.separator: without one, {one!r} could also be the beginning of {other!r}")

    def continuations(self, problem: Problem) -> list[str]:
        """What follows a prompt, for each outcome: each should be one token of the model's tokenizer."""
        words, tokens = self.words(problem), problem.tunnel.outcome_tokens
        assert tokens is not None  # `words` made sure
        return [self.separator + words[int(token)] for token in tokens]

    def prompts(self, problem: Problem, inputs: np.ndarray) -> list[Prompt]:
        """Of sequences int[B, T]."""
        words = self.words(problem)
        return [self._prompt(words, problem, sequence) for sequence in inputs]

    def _prompt(self, words: list[str], problem: Problem, sequence: np.ndarray) -> Prompt:
        written = [words[int(token)] for token in sequence]
        if not self.start and sequence[0] == problem.tunnel.start:
            written[0] = ""
        ends = np.cumsum([len(word) for word in written]) + len(self.separator) * np.arange(len(written))
        return Prompt(self.separator.join(written), [int(end) for end in ends[problem.tokens]])

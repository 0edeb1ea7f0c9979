"""The judge: holds what a model predicts against what exact reasoners say, and writes the verdict down."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windtunnel import records
from windtunnel.compare import More, by_hops, verdict
from windtunnel.compiled import Compiled
from windtunnel.config import evaluate_id
from windtunnel.decide import decide
from windtunnel.information import kl_bits
from windtunnel.problem import Exact, Problem, answers_program, exact_program
from windtunnel.spec import arrays, plain


class Judge:
    """What exact reasoners say is worked out once for each problem."""

    def __init__(self) -> None:
        self.compiled = Compiled()
        self._exact: dict[str, Exact] = {}
        self._answers: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def ahead(self, problem: Problem) -> None:
        """Begin to compile what exact reasoners say."""
        self.compiled.ahead(jax.tree.structure(problem), exact_program, arrays(problem))

    def exact(self, problem: Problem) -> Exact:
        """The exact answers, as numpy arrays."""
        if problem.id not in self._exact:
            knobs = arrays(problem)
            program = self.compiled.get(jax.tree.structure(problem), exact_program, knobs)
            self._exact[problem.id] = jax.tree.map(np.asarray, program(knobs))
        return self._exact[problem.id]

    def answers(self, problem: Problem, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The exact predictive, and weights, of the `examples` evaluation sequences from number `first` on."""
        key = problem.id, first
        if key not in self._answers:
            knobs, numbers = arrays(problem), jnp.arange(first, first + problem.evaluate.examples)
            program = self.compiled.get((jax.tree.structure(problem), "answers"), answers_program, knobs, numbers)
            log_p_BPV, weight_BP = program(knobs, numbers)
            self._answers[key] = np.asarray(log_p_BPV), np.asarray(weight_BP)
        return self._answers[key]

    def case(self, problem: Problem, log_q_BPV: np.ndarray, farther_BPV: np.ndarray | None = None) -> "Case":
        """What a model says (nats) of the first `examples` sequences, to be judged; and with questions that go farther,
        where these are asked (`Problem.farther`).
        """
        return Case(self, problem, log_q_BPV, farther_BPV)


class Case:
    """A model before the judge. While something that decides is open, it can be asked for more sequences."""

    def __init__(self, judge: Judge, problem: Problem, log_q_BPV: np.ndarray, farther_BPV: np.ndarray | None = None):
        self.judge, self.problem, self.log_q_BPV, self.farther_BPV = judge, problem, log_q_BPV, farther_BPV
        exact = judge.exact(problem)
        self.kl_bits, self.weight = [kl_bits(exact.log_predictive, log_q_BPV)], [exact.weight]

    @property
    def sequences(self) -> int:
        return len(self.weight) * self.problem.evaluate.examples

    def wanted(self) -> list[int]:
        """The numbers at which blocks of `examples` more sequences begin: as many as there were, where something that
        decides is open; none where all is decided, or more are not allowed.
        """
        evaluate, count = self.problem.evaluate, self.sequences
        decision = decide(
            self.problem.bins, np.concatenate(self.kl_bits), np.concatenate(self.weight), evaluate.tolerance
        )
        until = min(2 * count, evaluate.most_examples) if decision.open else 0
        return [first for first in range(count, until, evaluate.examples) if first + evaluate.examples <= until]

    def add(self, first: int, log_q_BPV: np.ndarray) -> None:
        """What the model says of the block of sequences that begins with number `first`."""
        log_p_BPV, weight_BP = self.judge.answers(self.problem, first)
        self.kl_bits.append(kl_bits(log_p_BPV, log_q_BPV))
        self.weight.append(weight_BP)

    def close(self, folder: Path, facts: records.Json) -> records.Json:
        """Write down, and return, the verdict, and what else is known of the model."""
        more = More(np.concatenate(self.kl_bits[1:]), np.concatenate(self.weight[1:])) if self.weight[1:] else None
        numbers, curves = verdict(self.problem, self.judge.exact(self.problem), self.log_q_BPV, more)
        more_numbers, more_curves = self._by_hops()
        numbers, curves = numbers | more_numbers, curves | more_curves
        evaluate = self.problem.evaluate
        (folder / "error.txt").unlink(missing_ok=True)
        settings = {
            "curves": records.write_curves(folder / "curves.npz", curves),
            "evaluate": plain(evaluate),
            "evaluate_id": evaluate_id(self.problem),
            "reach": evaluate.reach,
        }
        result = {**numbers, **facts}
        records.write_sealed(folder / "result.json", {**settings, **result})
        return result

    def _by_hops(self) -> tuple[Any, Any]:
        """KL over hops where questions ask for some: of the farther questions, if these were put to the model."""
        problem, log_q_BPV = self.problem, self.log_q_BPV
        if problem.farther is not None and self.farther_BPV is not None:
            problem, log_q_BPV = problem.farther, self.farther_BPV
        exact = self.judge.exact(problem)
        return ({}, {}) if exact.asked is None else by_hops(problem, exact, log_q_BPV)


def iteration_curves(iterations: Any, index: int) -> dict[str, np.ndarray]:
    """`depth.npz` of a study of a pack: for each evaluation sequence and scored token the iterations it took, the KL
    (bits) between its last two predictives, and whether it had settled; where not, it stopped at the limit.
    """
    return {
        "iterations": iterations.used_BP[index],
        "residual_bits": iterations.residual_BP[index],
        "settled": iterations.settled_BP[index],
    }


def iteration_facts(curves: dict[str, np.ndarray]) -> records.Json:
    """The same in four numbers."""
    residual = float(curves["residual_bits"].max())
    return {
        "iterations_mean": float(curves["iterations"].mean()),
        "iterations_max": int(curves["iterations"].max()),
        "not_converged_share": float(1 - curves["settled"].mean()),
        "residual_bits_max": residual if np.isfinite(residual) else None,
    }


def attention_facts(reading: Any, index: int) -> records.Json:
    """How a layer's attention was computed for a study of a pack, over its examples; of what is called worst or a bound
    the largest, of other certificates the mean.
    """

    def number(name: str, of_B: np.ndarray) -> float | None:
        value = float(of_B.max() if name.endswith(("_bound", "_worst")) else of_B.mean())
        return value if np.isfinite(value) else None

    facts: records.Json = {
        "kernel": reading.kernel,
        "skipped_blocks": float(reading.skipped_B[index].mean()),
        "skipped_mass_bound": number("skipped_mass_bound", reading.mass_B[index]),
    }
    if reading.certificates:
        facts["certificates"] = {name: number(name, of[index]) for name, of in sorted(reading.certificates.items())}
    return facts

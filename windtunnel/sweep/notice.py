"""What is said at the start of a run about what the block `bayesian_attention` has set up, with units, and what of it
cannot be had.
"""

from typing import Any

import jax

from windtunnel import block
from windtunnel.config import Study
from windtunnel.instruments.base import no_attention, sequences
from windtunnel.instruments.geometry import welch
from windtunnel.progress import console

FEW = 4  # lines, of all points of a sweep together


def announce(configs: list[Any], studies: list[Study]) -> None:
    """For studies that are validated, and the configurations that they were composed from."""
    given = [block.values(block.own(config)) for config in configs]
    different = list(dict.fromkeys(line for pair in zip(given, studies, strict=True) for line in lines(*pair)))
    for line in different[:FEW]:
        console().print(line)
    if len(different) > FEW:
        console().print(f"… and {len(different) - FEW} more such lines, for other points of the sweep")


def lines(given: dict[str, Any], study: Study) -> list[str]:
    """`given` are the keys of the block that set something, and their values."""
    position, model, depth, parts = study.position, study.model, study.model.depth, []
    if any(key.startswith("prior") for key in given) and position is not None:
        parts.append(", ".join([f"position={position.name}", *numbers(study, position)]))
    if "hypothesis_space.dimension" in given:
        parts.append(f"keys of {model.width // model.heads} dimensions in each of {model.heads} heads")
    if depth is not None and any(key.startswith("convergence") for key in given):
        parts.append(f"at most {depth.max_iterations} iterations, until predictives move by < {depth.tolerance:g} bits")
    said = [f"{block.NAME}: {'; '.join(parts)}"] if parts else []
    return [*said, *unreachable(study)]


def numbers(study: Study, position: Any) -> list[str]:
    """Of a prior: `beta 1.5`, `scale 0.1 horizons = 6.4 observations, where learning starts`."""
    beta, scale = (getattr(position, name, None) for name in ("beta", "scale"))
    said = [] if beta is None else [f"beta {beta:g}"]
    if scale is not None:
        each = block.each(study.tunnel)
        tokens = "" if each == 1 else f" = {scale:g} tokens"
        learned = ", where learning starts" if position.learn else ""
        of = f"{scale / each / study.horizon:.3g} horizons = {scale / each:g} observations"
        said.append(f"scale {of}{tokens}{learned}")
    return said


def unreachable(study: Study) -> list[str]:
    """Why the keys of different hypotheses cannot have 1 − RMS cosine above its threshold, in a line, if they cannot:
    nobody looks, no keys are seen, or the Welch bound for n hypotheses in d dimensions lies below it.
    """
    threshold = float(study.monitor.orthogonality_rms)
    if not threshold:
        return []
    key = f"monitor.orthogonality_rms={threshold:g}"
    if (why := no_attention(study)) is not None:
        return [f"{key} applies to nothing: {why}"]
    frame = jax.eval_shape(lambda: study.tunnel.frame(*sequences(study, 1)))
    if frame is None:
        return [f"{key} applies to nothing: tokens of {study.tunnel.name} stand for no hypotheses"]
    n, d = frame.count, study.model.width // study.model.heads
    least = welch(n, d)
    if 1 - least >= threshold:
        return [] if study.monitor.every else [f"{key} is looked at with monitor.every=N, every so many steps"]
    return [
        f"{key} is out of reach: {n} {frame.what} in {d} dimensions have an RMS cosine of at least {least:.3f} "
        f"(Welch), so 1 − RMS cosine is at most {1 - least:.3f}, where random keys have {1 - d**-0.5:.3f}; the score "
        "relative to that bound (monitor.orthogonality) can be 1"
    ]

"""The rules that hold between the fields of a study, each of which is valid by itself."""

import itertools
from typing import Any

from windtunnel.config import Em, Study
from windtunnel.errors import BadInput
from windtunnel.models import AnyModel, takes_position
from windtunnel.models.position import AnyPosition, PerHead, PerLayer, Position, per_layer
from windtunnel.problem import Problem
from windtunnel.spec import members, names
from windtunnel.tunnels import AnyTunnel, Tunnel

MOST_TOKENS = 2**31  # tokens are numbered with 32 bits; what is shorter is a matter of memory


def agree(study: Study) -> None:
    """Raise `BadInput` with one line where they do not hold."""
    tunnel, model, train = study.tunnel, study.model, study.train
    if tunnel.conflict is not None:
        raise BadInput(f"tunnel.{tunnel.conflict}")
    if train.horizon is None and tunnel.capacity is None:
        raise BadInput(f"train.horizon=null: {tunnel.name} has no longest sequence, so give a number of observations")
    agree_on_problem(study.problem)
    if model.conflict is not None:
        raise BadInput(f"model.{model.conflict}")
    for number, own in enumerate(getattr(model, "positions", ())):
        _fits(own, f"model.positions.{number}", study)
    if model.by_evidence and not shows_outcomes(tunnel):
        raise BadInput(
            f"model={model.name}: weighs by the evidence of outcomes, and inputs of {tunnel.name} do not show each "
            "outcome as the token after its prediction"
        )
    _agree_on_terms(study)
    _agree_on_monitor(study)
    if not model.heads and train.em != Em():
        raise BadInput(f"train.em: model {model.name} has no attention to route by")
    _agree_on_position(study)


def _agree_on_position(study: Study) -> None:
    model, position = study.model, study.position
    if not takes_position(model.name):
        if position is not None:
            takers = ", ".join(spec.name for spec in members(AnyModel) if takes_position(spec.name))
            raise BadInput(f"position={position.name}: model {model.name} takes none (valid with model={takers})")
        return
    if position is None:
        raise BadInput(f"position=null: model {model.name} needs one; valid: {', '.join(names(AnyPosition))}")
    _fits(position, "position", study)
    if isinstance(position, PerLayer) and len(position.layers) != model.layers:
        raise BadInput(
            f"position.layers: lists {len(position.layers)} positions, and the model has model.layers={model.layers}"
        )
    if model.softmax == "scalable_inside" and not any(one.has_bias for one in per_layer(position, model.layers)):
        raise BadInput(
            f"model.softmax=scalable_inside: position={position.name} adds no prior to the score that could be inside; "
            "valid: plain, scalable_outside"
        )
    _agree_on_inference(study, per_layer(position, model.layers))


def _fits(position: Position, key: str, study: Study) -> None:
    """The position against the sizes of the model; `key` is where it stands."""
    model = study.model
    conflict = position.conflict(model.width // model.heads, study.tunnel.tokens(study.problem.length))
    if conflict is not None:
        raise BadInput(f"{key}{conflict}")
    layers = position.layers if isinstance(position, PerLayer) else (position,)
    for one in layers:
        if isinstance(one, PerHead) and len(one.heads) != model.heads:
            raise BadInput(
                f"{key}.heads: lists {len(one.heads)} positions, and the model has model.heads={model.heads}"
            )


def _agree_on_inference(study: Study, positions: Any) -> None:
    model = study.model
    inference: Any = model.inference
    if inference.codebook(1, 1):
        refusals = [inference.refusal(one, model.softmax == "scalable_inside") for one in positions]
        if None not in refusals:
            raise BadInput(f"model.inference={inference.name}: {refusals[0]}; valid: uniform, learned, sinusoidal, t5")
        tokens = study.tunnel.tokens(study.horizon)
        if tokens > inference.above:
            raise BadInput(
                f"model.inference.above={inference.above}: a codebook is fitted after training, so training is exact; "
                f"give at least the {tokens} tokens of the horizon"
            )


def shows_outcomes(tunnel: Tunnel) -> bool:
    """Whether the token after each prediction is the outcome, under its own number (or says that something begins)."""
    token_V = tunnel.outcome_tokens
    if token_V is None or list(token_V) != list(range(tunnel.outcomes)):
        return False
    return all(after - at == 1 for at, after in itertools.pairwise(tunnel.scored(min(3, tunnel.capacity or 3))))


def _agree_on_terms(study: Study) -> None:
    for name, term in study.train.terms.items():
        if term.by_domain and type(study.tunnel).log_domains is Tunnel.log_domains:
            takers = ", ".join(spec.name for spec in members(AnyTunnel) if spec.log_domains is not Tunnel.log_domains)
            raise BadInput(f"train.terms.{name}: {study.tunnel.name} has no domains (valid with tunnel={takers})")
        if (refusal := term.refusal(study)) is not None:
            raise BadInput(f"train.terms.{name}: {refusal}")


def _agree_on_monitor(study: Study) -> None:
    monitor, model, tunnel = study.monitor, study.model, study.tunnel
    fault, recover = monitor.fault, monitor.recover
    if recover.tries and not monitor.every:
        raise BadInput(
            f"monitor.recover.tries={recover.tries}: nothing is recovered without checks; give monitor.every"
        )
    if fault.name is not None and fault.step >= study.train.steps:
        raise BadInput(f"monitor.fault.step={fault.step}: training has train.steps={study.train.steps}")
    if fault.name in (None, "nan_parameter", "nan_gradient"):
        return
    if not takes_position(model.name) or model.name == "experts" or model.depth is not None:
        raise BadInput(
            f"monitor.fault.name={fault.name}: needs attention that shows its keys (valid with model=transformer)"
        )
    shared = type(tunnel).frame is not Tunnel.frame and tunnel.vocabulary > 0  # hypotheses that all sequences have
    if fault.name == "merged" and type(tunnel).log_domains is Tunnel.log_domains and not shared:
        raise BadInput(f"monitor.fault.name=merged: {tunnel.name} has neither domains nor hypotheses of all sequences")


def agree_on_problem(problem: Problem) -> None:
    tunnel, capacity, hops = problem.tunnel, problem.tunnel.capacity, problem.evaluate.hops
    if problem.length >= MOST_TOKENS:
        raise BadInput(
            f"evaluate.reach={problem.evaluate.reach:g}: sequences of {problem.length:,} observations cannot be "
            f"numbered; at most {MOST_TOKENS:,}"
        )
    if hops is not None and tunnel.asking(hops) is None:
        takers = ", ".join(spec.name for spec in members(AnyTunnel) if spec.asking is not Tunnel.asking)
        raise BadInput(f"evaluate.hops={hops}: questions of {tunnel.name} ask for no hops (valid with tunnel={takers})")
    if capacity is not None and problem.horizon > capacity:
        raise BadInput(f"train.horizon={problem.horizon}: {tunnel.name} holds at most {capacity} observations")
    if capacity is not None and problem.length > capacity:
        most = capacity / problem.horizon
        raise BadInput(
            f"evaluate.reach={problem.evaluate.reach:g}: {tunnel.name} holds at most {capacity} observations, "
            f"a reach of {most:g} at horizon {problem.horizon}"
        )

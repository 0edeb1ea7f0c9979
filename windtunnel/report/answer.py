"""What a sweep says, in words."""

import math
from typing import Any, NamedTuple

from windtunnel.records.groups import Group
from windtunnel.records.statistics import Length
from windtunnel.report.numbers import length, lengths, number, with_interval


def about_recovery(groups: list[Group]) -> bool:
    """Whether the numbers of the data's own prior were varied, and every model has a prior to hold against it."""
    done = [row for group in groups for row in group.done]
    varied = any(name.startswith("tunnel.prior.") for name in groups[0].key)
    return varied and bool(done) and all("recovery" in row for row in done)


def answer(groups: list[Group]) -> str:
    """The sweep's outcome in one sentence: who holds how far past the horizon, best first."""
    if about_recovery(groups):
        return _recovered(groups)

    outcomes = dict.fromkeys(_outcome(group) for group in ranked(groups))
    names = {outcome: [" ".join(g.key.values()) for g in groups if _outcome(g) == outcome] for outcome in outcomes}
    return "; ".join(f"{', '.join(those)}: {outcome}" for outcome, those in names.items()) + "."


def ranked(groups: list[Group]) -> list[Group]:
    """Best first: who holds furthest past the horizon, then who is nearest to the exact posterior."""

    def rank(group: Group) -> tuple[bool, float, float]:
        nearest = _or(group.interval("kl_bits_past").mean, group.interval("kl_bits").mean)
        return not group.done, -(group.median("extrapolation_ratio").median.value or 0) if group.done else 0, nearest

    return sorted(groups, key=rank)


class Finding(NamedTuple):
    """What was found of one group: its verdict, the number that says most, and the numbers behind it in a sentence."""

    name: str
    verdict: str
    headline: str
    sentence: str


def finding(group: Group) -> Finding:
    if not group.done:
        missing = ", ".join(f"{count} {state}" for state, count in group.missing.items())
        return Finding(group.name, "did not finish", "–", f"Of its studies {missing}.")
    first = group.done[0]
    tolerance, past = first["evaluate"]["tolerance"], first.get("kl_bits_past") is not None
    sentence = f"{with_interval(group.interval('kl_bits'))} bits from the exact posterior inside the horizon"
    headline = f"{number(group.interval('kl_bits').mean)} bits"
    if past:
        headroom = number(group.interval("headroom_bits_past").mean)
        reached = group.median("extrapolation_ratio")
        headline = "–" if reached.median.value is None else f"{length(*reached.median)} ×"
        sentence += f", {with_interval(group.interval('kl_bits_past'))} past it; "
        sentence += f"the best of those that see less is at {headroom}. "
        if reached.longest.value is None:
            sentence += f"Above τ = {tolerance:g} inside the horizon already, so no length past it is credited"
        elif group.censored == len(group.done):
            seeds = "the one study" if group.censored == 1 else f"all {group.censored} seeds"
            sentence += f"At most τ = {tolerance:g} up to the longest length judged, "
            sentence += f"{first['critical_length']:.0f} observations, in {seeds}"
        else:
            sentence += f"At most τ = {tolerance:g} up to {lengths(group, 'extrapolation_ratio')} × the horizon"
    if (recovery := first.get("recovery")) and recovery[0].get("true_beta") is not None:
        beta = group.interval("recovered_beta")
        sentence += (
            f". Its prior has β {with_interval(beta)}, the data's {number(recovery[0]['true_beta'])}" if beta.n else ""
        )
    missing = ", ".join(f"{count} {state}" for state, count in group.missing.items())
    return Finding(group.name, group.verdict, headline, sentence + (f" ({missing})" if missing else "") + ".")


def _recovered(groups: list[Group]) -> str:
    """Where the learned prior is the data's own, to within τ bits; where it is so but for a temperature; where not."""
    done = [group for group in groups if group.done]
    tolerance = done[0].done[0]["evaluate"]["tolerance"]

    def within(metric: str) -> list[Group]:
        return [group for group in done if group.interval(metric).mean <= tolerance]

    exact, tempered = within("recovered_kl_bits"), within("recovered_kl_bits_tempered")
    missed = [" ".join(group.key.values()) for group in done if group not in tempered]
    return (
        f"The data's prior is recovered in {len(exact)} of {len(done)} cases (KL ≤ {tolerance:g} bits), "
        f"up to a temperature in {len(tempered)}; not in {', '.join(missed) or 'none'}."
    )


def _outcome(group: Group) -> str:
    if not group.done:
        return "did not finish"
    if group.done[0].get("kl_bits_full") is not None:
        pool, full = group.interval("kl_bits_pool").mean, group.interval("kl_bits_full").mean
        nearer = "the pool" if pool < full else "the prior"
        return f"follows {nearer}" if min(pool, full) < max(pool, full) / 10 else f"between, nearer to {nearer}"
    reached = group.median("extrapolation_ratio")
    if reached.longest.value is None:
        return "fails in range"
    if all(row["verdict"] == "vacuous" for row in group.done):
        return "exact, which proves nothing here (too little headroom)"
    if all(row["reach"] <= 1 for row in group.done):
        return "exact in range"
    sure = sorted(_sure(row) for row in group.done if row["extrapolation_ratio"] is not None)
    if reached.shortest.value is None:
        failing = len(group.done) - len(sure)
        return f"fails in range in {failing} of {reached.n} seeds, else up to {length(*sure[-1])} × the horizon"
    least = f"exact to {'at least ' if sure[0].censored else ''}{sure[0].value:.3g} × the horizon"
    return least if sure[0] == sure[-1] else f"{least} in every seed, {length(*sure[-1])} × in the best"


def _sure(row: dict[str, Any]) -> Length:
    """How far a study surely holds, in horizons: before its first bin that is open or fails."""
    return Length(row["critical_length_low"] / row["horizon"], bool(row["censored"]) and not row["open"])


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value

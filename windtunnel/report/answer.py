"""What a sweep says, in words."""

import math

from windtunnel.report.groups import Group


def about_recovery(groups: list[Group]) -> bool:
    """Whether the numbers of the data's own prior were varied, and every model has a prior to hold against it."""
    done = [row for group in groups for row in group.done]
    varied = any(name.startswith("tunnel.prior.") for name in groups[0].key)
    return varied and bool(done) and all("recovery" in row for row in done)


def answer(groups: list[Group]) -> str:
    """The sweep's outcome in one sentence: who holds how far past the horizon, best first."""
    if about_recovery(groups):
        return _recovered(groups)

    def rank(group: Group) -> tuple[float, float]:
        return -(group.ratio[0] or 0), _or(group.interval("kl_bits_past").mean, group.interval("kl_bits").mean)

    outcomes = dict.fromkeys(_outcome(group) for group in sorted(groups, key=rank))
    names = {outcome: [" ".join(g.key.values()) for g in groups if _outcome(g) == outcome] for outcome in outcomes}
    return "; ".join(f"{', '.join(those)}: {outcome}" for outcome, those in names.items()) + "."


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
    ratio, censored = group.ratio
    if ratio is None:
        return "fails in range"
    if all(row["verdict"] == "vacuous" for row in group.done):
        return "exact, which proves nothing here (too little headroom)"
    if all(row["reach"] <= 1 for row in group.done):
        return "exact in range"
    return f"exact to {'at least ' if censored else ''}{ratio:.3g} × the horizon"


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value

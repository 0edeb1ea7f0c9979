"""Records put together over seeds."""

import math
from typing import Any, NamedTuple

from windtunnel.statistics import Interval, interval, median_censored

Row = dict[str, Any]


class Group(NamedTuple):
    """Studies that differ in nothing but their seed."""

    key: dict[str, str]
    rows: list[Row]

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row["status"] == "done"]

    def interval(self, metric: str) -> Interval:
        return interval([row[metric] for row in self.done if row.get(metric) is not None])

    @property
    def ratio(self) -> tuple[float | None, bool]:
        """Median extrapolation ratio, and whether it is censored."""
        return median_censored(
            [row["extrapolation_ratio"] for row in self.done], [row["censored"] for row in self.done]
        )

    @property
    def ratio_interval(self) -> Interval:
        """Of the extrapolation ratio; of nothing where a seed's is censored or undefined: then the median must do."""
        known = [row["extrapolation_ratio"] for row in self.done if row["extrapolation_ratio"] and not row["censored"]]
        return interval(known if len(known) == len(self.done) else [])

    @property
    def censored(self) -> int:
        """In how many studies every bin up to the reach holds."""
        return sum(bool(row["censored"]) for row in self.done)

    @property
    def critical_length(self) -> tuple[float | None, bool]:
        return median_censored([row["critical_length"] for row in self.done], [row["censored"] for row in self.done])

    @property
    def verdict(self) -> str:
        """The verdict of its studies, each with its count where they differ."""
        said = [row["verdict"] for row in self.done] + [row["status"] for row in self.rows if row["status"] != "done"]
        kinds = sorted(set(said), key=said.index)
        return kinds[0] if len(kinds) == 1 else ", ".join(f"{said.count(kind)} {kind}" for kind in kinds)


def groups(rows: list[Row], swept: list[str]) -> list[Group]:
    """Group by every swept key but the seed, in order of appearance."""
    made: dict[tuple[str, ...], Group] = {}
    keys = [key for key in swept if key != "seed"] or ["tunnel"]
    for row in rows:
        key = {name: str(row.get(name, "")) for name in keys}
        made.setdefault(tuple(key.values()), Group(key, [])).rows.append(row)
    return list(made.values())


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

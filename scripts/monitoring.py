"""`make monitoring`: models that are good and bad, and faults, row by row, then docs/monitoring.md:
python scripts/monitoring.py [--minutes 60]

What says most comes first; what does not begin within so many minutes is `not run`. What is done is not run again.
"""

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import page
from monitored import LONG, Row, models, struck, tunnel
from windtunnel import records
from windtunnel.monitor.monitors import MONITORS
from windtunnel.records.statistics import interval
from windtunnel.report.numbers import number, with_interval

DOC, MINUTES = Path("docs/monitoring.md"), 60.0
BOOTSTRAP = 1000


def train(until: float) -> None:
    first, second = struck(), models()
    for row in [*first[:3], *second[:2], *first[3:-2], *second[2:], *first[-2:]]:
        if time.monotonic() < until and not row.whole:
            row.run()


class Judged(NamedTuple):
    """A model of a configuration: its measures, the larger the worse, and whether it is bad in range and past."""

    configuration: str
    values: dict[str, float]
    bad: dict[str, bool]


def judged(rows: list[Row]) -> list[Judged]:
    every = []
    for row in rows:
        for study in row.done:
            health = row.health(study)
            if not health:
                continue
            tolerance = study["evaluate"]["tolerance"]
            bad = {place: not study[f"kl_bits{place}"] <= tolerance for place in ("", "_past")}
            values = {"steps": -float(study["steps"])}
            curve = records.read_learning_curve(row.root / study["study_id"] / "train.jsonl")["cross_entropy_bits"]
            values["training loss"] = float(np.mean(curve[-max(1, len(curve) // 20) :]))
            for monitor in MONITORS:
                value = health[-1]["monitors"][monitor.name]["value"]
                if value is not None:
                    values[monitor.name] = -value if monitor.more else value
            other = {key: value for key, value in study["overrides"].items() if key != "seed"}
            every.append(Judged(f"{row.name} {other}", values, bad))
    return every


def area(good: np.ndarray, bad: np.ndarray) -> float:
    """P(a bad model measures worse than a good one) + ½ P(they measure alike)."""
    return float(np.mean(bad[:, None] > good[None]) + np.mean(bad[:, None] == good[None]) / 2)


def areas(of: list[Judged], name: str, place: str) -> str:
    """The area under the ROC, with a 95 % interval over configurations that are drawn again."""
    known = [model for model in of if name in model.values]
    by_configuration: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for model in known:
        by_configuration[model.configuration].append((model.values[name], model.bad[place]))

    def split(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
        values, bad = (np.asarray(part) for part in zip(*pairs, strict=True))
        return values[~bad], values[bad]

    if not known or min(map(len, split([pair for own in by_configuration.values() for pair in own]))) < 3:
        return ""
    each, random, drawn = list(by_configuration.values()), np.random.default_rng(0), []
    for _ in range(BOOTSTRAP):
        good, bad = split([pair for index in random.integers(len(each), size=len(each)) for pair in each[index]])
        if len(good) and len(bad):
            drawn.append(area(good, bad))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{area(*split([pair for own in each for pair in own])):.2f} [{low:.2f}, {high:.2f}]"


def roc() -> str:
    """A line for each measure; a pair of columns for each tunnel."""
    by_tunnel: dict[str, list[Row]] = defaultdict(list)
    for row in models():
        by_tunnel[tunnel(row)].append(row)
    of = {name: judged(rows) for name, rows in by_tunnel.items()}
    head = ["measure", *(f"{name}, {place}" for name in of for place in ("in range", "past"))]
    names = ["training loss", "steps", *(monitor.name for monitor in MONITORS)]
    lines = []
    for name in names:
        cells = [areas(each, name, place) for each in of.values() for place in ("", "_past")]
        if any(cells):
            oracle = any(monitor.name == name and monitor.oracle for monitor in MONITORS)
            lines.append(
                [f"`{name}`{' (oracle)' if oracle else ''}" if "loss" not in name and name != "steps" else name, *cells]
            )
    counts = []
    for name, each in of.items():
        bad = [sum(model.bad[place] for model in each) for place in ("", "_past")]
        kinds = len({model.configuration for model in each})
        counts.append(
            f"{name}: {len(each)} models of {kinds} configurations, {bad[0]} of them bad in range, {bad[1]} past"
        )
    return "; ".join(counts) + ".\n\n" + page.table(head, lines, range(1, len(head)))


def at_threshold() -> str:
    """At the seed's thresholds: how often good models are past them, and bad ones not; and an exact model's values."""
    head = ["monitor", "threshold", "good models", "exact model", "untrained", "false alarms a run", "bad ones passed"]
    lines = []
    by_tunnel: dict[str, list[Row]] = defaultdict(list)
    for row in models():
        by_tunnel[tunnel(row)].append(row)
    for name, rows in by_tunnel.items():
        pairs = [(study, row.health(study)) for row in rows for study in row.done]
        pairs = [(study, health) for study, health in pairs if health]
        good = [health for study, health in pairs if study["kl_bits"] <= study["evaluate"]["tolerance"]]
        bad = [health for study, health in pairs if not study["kl_bits"] <= study["evaluate"]["tolerance"]]
        for monitor in MONITORS:
            last = [health[-1]["monitors"][monitor.name] for health in good]
            values = [of["value"] for of in last if of["value"] is not None]
            if not values or monitor.name == "convergence":
                continue
            past = [
                sum(row["monitors"][monitor.name]["state"] in ("warns", "fails") for row in rows[len(rows) // 2 :])
                for rows in good
            ]
            passed = [health[-1]["monitors"][monitor.name]["state"] == "good" for health in bad]
            exact = [of["exact"] for of in last if of["exact"] is not None]
            null = [of["null"] for of in last if of["null"] is not None]
            lines.append([
                f"`{monitor.name}`, {name}", number(last[0]["threshold"]), spread(values), spread(exact), spread(null),
                f"{np.mean(past):.1f}", f"{np.mean(passed):.0%}" if passed else "",
            ])  # fmt: skip
    return page.table(head, lines, range(1, len(head)))


def spread(values: list[float]) -> str:
    """The median, with the smallest and the largest."""
    if not values:
        return ""
    low, middle, high = (number(float(of)) for of in np.quantile(values, (0, 0.5, 1)))
    return middle if low == high else f"{middle} ({low} to {high})"


class Arm(NamedTuple):
    """The five seeds of a fault that lasts or does not, recovered or not."""

    row: Row
    rows: list[records.Json]

    @property
    def done(self) -> list[records.Json]:
        return [row for row in self.rows if row["status"] == "done"]

    def kl(self, place: str = "") -> str:
        lost = len(self.rows) - len(self.done)
        if not self.done:
            return "all fail" if lost else ""
        found = with_interval(interval([row[f"kl_bits{place}"] for row in self.done]))
        return f"{found}, {lost} fail" if lost else found

    @property
    def struck(self) -> int:
        return self.rows[0]["study"]["monitor"]["fault"]["step"]

    def events(self) -> list[list[records.Json]]:
        """Of each seed, every event with its step, alarms only of monitors that had an alarm after the fault."""
        return [[{**event, "at": check["step"]} for check in self.row.health(row) for event in check["events"]]
                for row in self.rows]  # fmt: skip

    def until_alarm(self, oracle: bool) -> str:
        """The median of steps to the first alarm, and the monitor that most often gave it."""
        names = {monitor.name for monitor in MONITORS if oracle or not monitor.oracle}
        firsts = []
        for events in self.events():
            alarms = [e for e in events if e["what"] == "alarm" and e["monitor"] in names and e["at"] >= self.struck]
            firsts.append(min(alarms, key=lambda e: e["at"], default=None))
        known = [(first["at"] - self.struck, first["monitor"]) for first in firsts if first is not None]
        if not known:
            return "none"
        which = max({name for _, name in known}, key=[name for _, name in known].count)
        some = "" if len(known) == len(firsts) else f" ({len(known)} of {len(firsts)})"
        return f"{np.median([steps for steps, _ in known]):.0f}{some}, `{which}`"

    def recoveries(self) -> str:
        """What was done, how often in all seeds, and how they ended."""
        counts: dict[str, int] = defaultdict(int)
        for events in self.events():
            for event in events:
                if event["what"] == "recovery":
                    counts[event["recovery"].partition(",")[0]] += 1
        fell = sum(row.get("verdict") == "fell back" for row in self.done)
        words = [f"{count} × {what}" for what, count in counts.items()]
        return "; ".join(words + ([f"{fell} of {len(self.rows)} end fallen back"] if fell else [])) or "nothing"


def arms(row: Row) -> dict[tuple[str, str], Arm]:
    """By (steps in force, tries): none of them where the row was cut off before its end."""
    by: dict[tuple[str, str], list[records.Json]] = defaultdict(list)
    for study in row.rows if row.whole else []:
        typed = study["overrides"]
        by[typed.get("monitor.fault.steps", ""), typed["monitor.recover.tries"]].append(study)
    return {key: Arm(row, rows) for key, rows in by.items()}


def ratio(arm: Arm, healthy: Arm) -> str:
    """KL ÷ that of the same seed without a fault: the geometric mean, with its interval."""
    of = {row["seed"]: row["kl_bits"] for row in healthy.done}
    ratios = [row["kl_bits"] / of[row["seed"]] for row in arm.done if row["seed"] in of]
    return with_interval(interval(ratios)) if ratios else ""


def faults() -> str:
    head = ["fault", "in force", "steps to alarm", "without the oracle", "KL without recovery", "÷ without fault",
            "KL with recovery", "÷ without fault", "what was done"]  # fmt: skip
    rows, lines = struck(), []
    named = {row.name: row for row in rows}
    for row in rows:
        if row.name.startswith("none"):
            continue
        long = LONG if row.name.endswith(LONG) else ""
        named_so = f"`{row.name.removesuffix(LONG)}`{long}"
        healthy = arms(named["none-mixture" if row.name == "merged" else f"none{long}"])
        each = arms(row)
        if not each or not healthy:
            lines.append([named_so, *page.not_run(len(head) - 1)])
            continue
        for steps in dict.fromkeys(key[0] for key in each):
            left, mended = each[steps, "0"], each[steps, "3"]
            lasts = "to the end" if steps == "0" else "once" if steps in ("1", "") else f"{steps} steps"
            base = healthy["", "0"]
            lines.append([
                named_so, lasts, left.until_alarm(True), left.until_alarm(False),
                left.kl(), ratio(left, base), mended.kl(), ratio(mended, base), mended.recoveries(),
            ])  # fmt: skip
    return page.table(head, lines, range(2, 8))


def healthy() -> str:
    """Without a fault: KL with recovery on and off, alarms, and recoveries that nobody needed."""
    sentences = []
    for row in struck():
        if not row.name.startswith("none"):
            continue
        each = arms(row)
        if not each:
            sentences.append(f"{row.name}: not run.")
            continue
        off, on = each["", "0"], each["", "3"]
        alarms = [[event for event in events if event["what"] == "alarm"] for events in off.events()]
        counts: dict[str, int] = defaultdict(int)
        for event in (event for events in alarms for event in events):
            counts[event["monitor"]] += 1
        which = ", ".join(f"{count} of `{name}`" for name, count in counts.items()) or "none"
        tunnel_name = off.rows[0]["tunnel"]
        sentences.append(
            f"`{tunnel_name}` without a fault: KL {off.kl()} bits in range, with recovery switched on {on.kl()}; "
            f"{np.mean([len(events) for events in alarms]):.1f} alarms a run ({which} in {len(alarms)} runs); "
            f"recovered: {on.recoveries()}."
        )
    return "\n".join(sentences)


def main() -> None:
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else MINUTES
    train(time.monotonic() + 60 * minutes)
    parts: dict[str, Any] = {"roc": roc, "thresholds": at_threshold, "healthy": healthy, "faults": faults}
    for name, made in parts.items():
        page.fill(DOC, name, made())


if __name__ == "__main__":
    main()

"""`make external`: the table of docs/external.md, models from outside beside native ones of the same problem."""

from pathlib import Path

from page import fill, table
from windtunnel.records.groups import Group, gather
from windtunnel.report.numbers import lengths, number, with_interval

ROOTS, DOC = [Path("runs/external_native"), Path("runs/external")], Path("docs/external.md")
MODELS = {
    ("transformer", "uniform"): "native, no position",
    ("torch", ""): "`examples/torch_transformer.py`, no position",
    ("transformer", "rope"): "native, RoPE",
    ("llama", ""): "`examples/llama.py`, RoPE",
}
HEAD = "model | seeds | KL in range | KL past | ratio | on other tokens | verdict".split(" | ")


def line(name: str, group: Group) -> list[str]:
    return [
        name,
        str(len(group.done)),
        with_interval(group.interval("kl_bits")),
        with_interval(group.interval("kl_bits_past")),
        lengths(group, "extrapolation_ratio"),
        number(group.interval("other_mass").mean),
        group.verdict,
    ]


def main() -> None:
    groups = gather(ROOTS, ["model", "position"])
    native = next(group for group in groups if group.key["model"] == "transformer")
    alike = {tuple(group.key.values()): group for group in groups if group.problem == native.problem}
    fill(DOC, "table", table(HEAD, [line(name, alike[key]) for key, name in MODELS.items()]))


if __name__ == "__main__":
    main()

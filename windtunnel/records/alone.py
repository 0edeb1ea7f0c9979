"""Interference: what a mixture costs in each of its domains, against the same model trained on that domain alone."""

import json
from typing import Any

Row = dict[str, Any]


def interference(row: Row, rows: list[Row]) -> dict[str, Any]:
    """`interference`: for each domain of a mixed prompt {`kl_bits`, `kl_bits_past`}, the KL in the domain, weighted by
    its exact posterior, less that of the same model, position and seed that has trained on that domain alone, on as
    many sequences of it, judged alike; `interference_bits`: the largest of them in range. Both None where one of these
    is not among the rows, or not done.
    """
    nothing = {"interference": None, "interference_bits": None}
    study = row.get("study") or {}
    domains = study.get("tunnel", {}).get("domains")
    if row["status"] != "done" or not domains or len(row.get("domains", [])) != len(domains):
        return nothing
    gaps = []
    for domain, known in zip(domains, row["domains"], strict=True):
        alone = next((other for other in rows if _alone(other, row, domain)), None)
        if alone is None:
            return nothing
        gaps.append({name: _less(known[name], alone[name]) for name in ("kl_bits", "kl_bits_past")})
    inside = [bits for gap in gaps if (bits := gap["kl_bits"]) is not None]
    return {"interference": gaps, "interference_bits": max(inside) if len(inside) == len(gaps) else None}


def _alone(other: Row, row: Row, domain: Row) -> bool:
    """Whether it is the study of this domain alone: on 1/D of the sequences, where D domains are drawn alike."""
    study = other.get("study") or {}
    if other["status"] != "done" or study.get("tunnel") != domain or other.get("evaluate") != row.get("evaluate"):
        return False
    many = len(row["study"]["tunnel"]["domains"])
    return _but_for_sequences(study) == _but_for_sequences(row["study"]) and (
        _sequences(study) * many == _sequences(row["study"])
    )


def _sequences(study: Row) -> int:
    return study["train"]["steps"] * study["train"]["batch"]


def _but_for_sequences(study: Row) -> str:
    train = {**study["train"], "steps": None, "batch": None}
    return json.dumps({**study, "train": train, "tunnel": None, "evaluate": None}, sort_keys=True)


def _less(mixed: float | None, alone: float | None) -> float | None:
    return None if mixed is None or alone is None else mixed - alone

"""The shapes of records: what the rest of the program takes for granted of a file, once the door has looked at it.

A shape is a type, a tuple of types, a dict of shapes by key (`key?` may be missing, a key `str` stands for any), or a
list of one shape.
"""

from types import NoneType
from typing import Any

TEXT_OR_NONE = (str, NoneType)
NUMBER_OR_NONE = (int, float, NoneType)
METRICS = ("kl_bits", "js_bits", "tv", "entropy_gap_bits", "impossible_mass")

STUDY = {
    "schema": int,
    "study_id": str,
    "study": {"tunnel": {"name": str}, "evaluate": dict, "train": dict, "model": {"name": str}, "seed": int},
    "overrides": {str: str},
    "facts": {
        "tunnel": str,
        "hypotheses": (int, float, str),
        "horizon": int,
        "seed": int,
        "position?": TEXT_OR_NONE,
        "model?": TEXT_OR_NONE,
        "prior?": TEXT_OR_NONE,
        "noise?": NUMBER_OR_NONE,
        "softmax?": TEXT_OR_NONE,
        "supervision?": TEXT_OR_NONE,
        "steps?": int,
        "parameters?": int,
        **{f"{key}?": NUMBER_OR_NONE for key in ("train_seconds", "compile_seconds", "tokens_per_second")},
    },
    "plugins?": [str],
    "pack?": {"name": str, "studies": int, "cut": TEXT_OR_NONE},
    "external?": str,
    "versions?": {str: str},
    "device?": {"kind": str, "platform": str, "count": int},
    "git?": TEXT_OR_NONE,
    "parameters?": str,
}

_HEAD = {
    "layer": int,
    "head": int,
    **dict.fromkeys(("beta", "scale", "kl_bits", "kl_bits_tempered", "sharpness"), NUMBER_OR_NONE),
    **dict.fromkeys(("true_beta", "true_scale"), NUMBER_OR_NONE),
}
RESULT = {
    "schema": int,
    "study_id": str,
    "curves": str,
    "evaluate": {"tolerance": (int, float), "reach": (int, float), "examples": int},
    "evaluate_id": str,
    "reach": (int, float),
    **{f"{metric}{where}{error}": NUMBER_OR_NONE
       for metric in METRICS for where in ("", "_past") for error in ("", "_se")},
    "baselines": {str: {"kl_bits": NUMBER_OR_NONE, "kl_bits_past": NUMBER_OR_NONE}},
    **dict.fromkeys(("headroom_bits", "headroom_bits_past", "critical_length", "critical_length_low",
                     "critical_length_high", "extrapolation_ratio", "worst_bin_bits", "equivalent_memory",
                     "unseen_share"), NUMBER_OR_NONE),
    "censored": (bool, NoneType),
    "open": bool,
    "sequences": int,
    "worst_bin": str,
    "equivalent_memory_censored": bool,
    "leak": bool,
    "verdict": str,
    **dict.fromkeys(("kl_bits_pool?", "kl_bits_full?", "other_mass?", "kl_ratio_half?", "recovered_kl_bits?",
                     "recovered_kl_bits_tempered?", "recovered_beta?", "recovered_scale?", "recovered_sharpness?"),
                    NUMBER_OR_NONE),
    "recovery?": [_HEAD],
    "attention?": [{"kernel": str, "skipped_blocks": (int, float), "skipped_mass_bound": (int, float)}],
}  # fmt: skip

SWEEP = {
    "question?": TEXT_OR_NONE,
    "commands?": [str],
    "points": [{"study_id": str, "overrides": {str: str}}],
    "packs?": [[str]],
    "fixed?": dict,
}
NOTE = {
    "studies": [str],
    "what": str,
    "step": int,
    "steps": int,
    "saved": int,
    "steady_seconds": (int, float),
    "compilations": int,
    "found_compiled?": int,
    "compile_seconds": (int, float),
    "host": str,
    "process": int,
    "kl_bits?": [NUMBER_OR_NONE],
    "devices?": str,
}
JOBS = {"jobs": [{"id": str, "log": str, "studies": [str]}]}
STEP = {"step": (int, float), "kl_bits": NUMBER_OR_NONE}  # a line of train.jsonl or probe.jsonl

HEALTH = {  # a line of health.jsonl
    "step": int,
    "monitors": {
        str: {"value": NUMBER_OR_NONE, "threshold": NUMBER_OR_NONE, "state": str, "null": NUMBER_OR_NONE,
              "exact": NUMBER_OR_NONE}
    },
    "events": [{"what": str}],
}  # fmt: skip


def misfit(value: Any, shape: Any, key: str = "") -> str | None:
    """Why a value is not of this shape, in a few words that name the key; None if it is."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{key} is no list"
        parts = [(entry, shape[0], f"{key}.{index}") for index, entry in enumerate(value)]
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{key or 'it'} is no object"
        asked = {str(name).removesuffix("?"): part for name, part in shape.items() if name is not str}
        missing = [name for name in shape if name is not str and not name.endswith("?") and name not in value]
        if missing:
            return f"{'.'.join(filter(None, (key, missing[0])))} is missing"
        parts = [
            (entry, asked.get(name, shape.get(str, object)), f"{key}.{name}" if key else name)
            for name, entry in value.items()
        ]
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        truth = isinstance(value, bool) and bool not in kinds and object not in kinds  # True is an int to Python
        fits = isinstance(value, kinds) and not truth
        return None if fits else f"{key}={str(value)[:40]} should be {' or '.join(_word(kind) for kind in kinds)}"
    return next((why for part in parts if (why := misfit(*part))), None)


def _word(kind: type) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    return words.get(kind, "an object")

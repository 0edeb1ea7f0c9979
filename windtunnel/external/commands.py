"""`windtunnel export` and `windtunnel judge`: their words, and what they print."""

import json
import re
from pathlib import Path
from typing import Any

import pydantic

from windtunnel.errors import BadInput

EXPORT = ("to", "train", "answers", "text", "text.symbols", "text.separator", "text.start")
JUDGE = ("name", "seed", "runs", "plugins")
TRUTH = {"true": True, "false": False}


def export(words: list[str]) -> None:
    """`to=DIR [train=N] [answers=false] [text=true …]` and Hydra overrides."""
    given, overrides = {}, []
    for word in words:
        key, _, value = word.partition("=")
        if key in EXPORT and not (key == "train" and re.fullmatch(r"[a-z]\w*", value)):  # the group of presets
            given[key] = value
        else:
            overrides.append(word)
    if not given.get("to"):
        raise BadInput("to: missing; give a folder to write the problem to, as in to=DIR")
    if not given.get("train", "0").isdecimal():
        raise BadInput(f"train={given['train']}: should be a whole number of batches, not negative")
    batches = int(given.get("train", "0"))
    answers, text = (_truth(key, given.get(key, default)) for key, default in (("answers", "true"), ("text", "false")))
    form = {key.removeprefix("text."): value for key, value in given.items() if key.startswith("text.")}
    from windtunnel.compose import compose
    from windtunnel.external import Posed, Text
    from windtunnel.external import export as write
    from windtunnel.progress import console

    study, _ = compose(overrides)
    posed = Posed(study.problem, study.train.batch, _text(Text, form) if text or form else None)
    folder = Path(given["to"])
    write(posed, folder, batches=batches, seed=study.seed, answers=answers)
    written = ", ".join(sorted(path.name for path in folder.iterdir()))
    console().print(f"problem {posed.problem.id} in {folder}: {written}", markup=False)


def judge(folder: Path, file: Path, words: list[str]) -> None:
    """`name=… [seed=…] [runs=…] [plugins=…]`."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in JUDGE:
            raise BadInput(f"{word}: no such word; valid: {', '.join(f'{known}=…' for known in JUDGE)}")
        given[key] = value
    if not given.get("name"):
        raise BadInput("name: missing; say what to call the model, as in name=mine")
    seed = given.get("seed", "0")
    if not seed.isdigit():
        raise BadInput(f"seed={seed}: should be a whole number, not negative")
    plugins = tuple(part for part in given.get("plugins", "").strip("[]").split(",") if part)
    from windtunnel import records
    from windtunnel.external.predictions import judge as hold_against
    from windtunnel.progress import console
    from windtunnel.report.tables import verdict

    where, kind = hold_against(folder, file, given["name"], int(seed), Path(given.get("runs", "runs")), plugins)
    table, facts = verdict(where)
    out = console()
    out.print(table)
    out.print(facts, markup=False)
    taken = {"log_q": "log-probabilities (nats)", "logits": "logits, and normalised"}[kind]
    if records.read_result(where)["open"]:
        out.print("open: a file cannot grow; export more sequences, as in evaluate.examples=512", markup=False)
    out.print(f"took {taken}; record in {where}", markup=False)


def _truth(key: str, value: str) -> bool:
    if value not in TRUTH:
        raise BadInput(f"{key}={value}: should be true or false")
    return TRUTH[value]


def _text(cls: type, form: dict[str, str]) -> Any:
    """The text form from what was typed: a list of symbols as JSON or [a,b,c], a separator as it is."""
    fields: dict[str, Any] = dict(form)
    symbols = form.get("symbols", "")
    if symbols.startswith("["):
        try:
            fields["symbols"] = tuple(str(one) for one in json.loads(symbols))
        except ValueError:
            fields["symbols"] = tuple(symbols.strip("[]").split(","))
    try:
        return cls(**fields)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = first["loc"][0]
        valid = (
            "letters, numbers, or a list of words"
            if key == "symbols"
            else first["msg"].replace("Input should", "should")
        )
        raise BadInput(f"text.{key}={form.get(str(key))}: {valid}") from None

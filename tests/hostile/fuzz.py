"""Two fuzzers, seeded: `python -m tests.hostile.fuzz input|records SECONDS [SEED]` prints what they find.

`input` types keys, values and commands that somebody might, or might not: whatever comes out is one line and an exit
code that is promised. `records` damages files of records and has them read: whatever comes out, no number of another
study changes, and nothing ends in a traceback. Each try has a number, and depends on it and the seed alone.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax

from tests import commanded
from tests.hostile.damage import WAYS, swap
from windtunnel import presets, records

KEYS = (
    "tunnel prior model position train evaluate seed runs plugins probe question tracker twin force dry_run "
    "fail_fast distributed checkpoint_seconds compilation_cache hydra hydra/launcher hydra/sweeper "
    "hydra.sweeper.params hydra.run.dir hydra.job.chdir hydra.searchpath tunnel.noise tunnel.bits tunnel.symbols "
    "tunnel.hypotheses tunnel.pool tunnel.prior tunnel.prior.scale tunnel.prior.beta tunnel.name model.width "
    "model.layers model.heads model.hidden model.softmax model.loops position.name position.scale position.beta "
    "position.scaling position.layers train.steps train.batch train.horizon train.supervision train.optimizer "
    "train.learning_rate train.em train.em.phase train.terms train.terms.x.name train.warmup train.clip "
    "evaluate.reach evaluate.examples evaluate.most_examples evaluate.tolerance evaluate.seed probe.every x x.y "
    "bayesian_attention +bayesian_attention bayesian_attention.prior_type bayesian_attention.prior_params "
    "bayesian_attention.prior_params.beta bayesian_attention.prior_params.scale bayesian_attention.hypothesis_space "
    "bayesian_attention.hypothesis_space.dimension bayesian_attention.hypothesis_space.orthogonality_threshold "
    "bayesian_attention.convergence bayesian_attention.convergence.tolerance +bayesian_attention.x "
    "tunnel.x +x ++x.y ~x +sweep +term +twin ~tunnel ~model ~train"
).split()
VALUES = [
    "", "null", "true", "false", "0", "1", "-1", "2", "3.5", "1e9", "1e400", "-1e400", "nan", "inf", "-inf",
    "99999999999", "9" * 30, "9" * 5000, "x", "x" * 300, "ä", "🦀", "'", "\"", "''", "[", "]", "[]", "[1]", "[1,2]",
    "{}", "{a:1}", "{a:{b:c}}", "[[[[1]]]]", "[" * 300, "a b", "a,b", "1,2", "0,-1", "range(3)", "range(0)",
    "range(1,2,0)", "range(1e9)", "glob(*)", "choice(1,2)", "choice()", "shuffle(1,2)", "sort(2,1)",
    "interval(0,1)", "tag(a,1)", "int(3)", "int(x)", "str(3)", "${x}", "${oc.env:HOME}", "${oc.env:NOPE}",
    "${seed}", "${", "$x", "\\", "\\,", "a=b", "=", "==", ":", "a:b", "#", "!", "!!python/object:x", "../..", "/",
    "/dev/null", "/proc/x", "~", "%s", "\t", "\n", "\x00", "\x1b[31m", "\udcff", "٣", "１", "0x10", "0b1", "1_000",
    "1__0", "+1", "--1", "1.", ".5", "1e", "1e-400", "on", "yes", "None", "NaN", "Infinity", "[/x]", "recall",
    "hmm", "rope", "alibi", "per_layer", "packed", "basic", "smoke", "noise", "urn,die", "gru,lstm", "posterior",
]  # fmt: skip
FLAGS = (
    "-m --multirun -c --cfg -i --info --resolve -p --package -cd --config-dir --hydra-help --dry-run --fail-fast "
    "--force --help -h --by --metric --format --compare --trust --version --nosuch -x -- - --dry-run=1 --by= "
    "--format=csv"
).split()
COMMANDS = "run run run run run run table status evaluate probe report export judge verify list nosuch".split()
COMMON = {
    "table": 2,
    "status": 1,
    "evaluate": 2,
    "probe": 2,
    "report": 1,
    "judge": 3,
    "export": 3,
    "list": 1,
    "verify": 1,
}
CODES = (0, 1, 2)


class Trained(Exception):
    """A command was valid and would train: it is not to."""


def words(chance: random.Random) -> list[str]:
    """A command, and what might follow it."""
    groups = {group: list(presets.choices(group)) for group in presets.GROUPS}

    def override() -> str:
        key = chance.choice(KEYS)
        names = groups.get(key.lstrip("+"))
        value = chance.choice(names) if names and chance.random() < 0.5 else chance.choice(VALUES)
        if chance.random() < 0.1:
            at = chance.randrange(len(key) + 1)
            key = key[:at] + chance.choice("xé.=[/+~ ") + key[at:]
        if chance.random() < 0.15:
            value += chance.choice([",", ""]) + chance.choice(VALUES)
        return f"{key}={value}" if chance.random() < 0.97 else chance.choice([key, value])

    command = chance.choice(COMMANDS)
    if command == "run":
        typed = [override() for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        typed += ["-m"] if chance.random() < 0.3 else []
    else:
        paths = ["nowhere", ".", "..", "/dev/null", "/proc/x", "x" * 300, "", "a\x00b", "ä", "sweep", "single", "torn"]
        typed = [chance.choice(paths) if chance.random() < 0.7 else chance.choice(VALUES)
                 for _ in range(chance.randrange(COMMON.get(command, 1) + 1))]  # fmt: skip
        typed += [override()] if chance.random() < 0.4 else []
    if chance.random() < 0.25:
        typed.insert(chance.randrange(len(typed) + 1), chance.choice(FLAGS))
    return [command, *typed]


def refuses(*_: object, **__: object) -> None:
    raise Trained


@contextlib.contextmanager
def idle() -> Iterator[None]:
    """Everything up to where something would be trained, verified or exported."""
    from windtunnel.sweep import run as module

    estimate = module.refuse_impossible

    def then_refuse(*given: object) -> None:
        estimate(*given)  # type: ignore[arg-type]
        raise Trained

    with (
        mock.patch("windtunnel.sweep.run.refuse_impossible", then_refuse),
        mock.patch("windtunnel.verify.side_by_side", refuses),
        mock.patch("windtunnel.external.export", refuses),
        mock.patch("windtunnel.sweep.processes.join", refuses),
    ):
        yield


def wrong_with(folder: Path, typed: list[str]) -> str | None:
    """What is wrong with how a command ends, in words; None where nothing is."""
    began = time.process_time()
    try:
        with idle():
            code, out, err = commanded.windtunnel(folder, *typed)
    except Trained:
        return None
    except BaseException:
        return traceback.format_exc()
    lines = [line for line in err.split("\n") if line and "UserWarning" not in line]
    took = time.process_time() - began
    if code not in CODES:
        return f"exit code {code}: {err[-300:]}"
    if "Traceback" in err or "Traceback" in out:
        return err + out
    if code == 2 and (len(lines) != 1 or (out and not {"-i", "--info"} & set(typed))):
        return f"{len(lines)} lines and {len(out)} letters: {err[:600]} {out[:300]}"
    return f"{took:.1f} s" if took > 6 else None


def input_fuzz(seconds: float, seed: int, say: Callable[[str], object] = print) -> tuple[int, int]:
    """(tries, how many of them were wrong)."""
    until, wrong = time.monotonic() + seconds, 0
    for number in itertools.count():
        if time.monotonic() > until:
            return number, wrong
        chance = random.Random(f"{seed} {number}")
        typed = words(chance)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "torn").mkdir()
            (folder / "torn/study.json").write_text("{")
            why = wrong_with(folder, typed)
            left = sorted(path.name for path in folder.iterdir() if path.name != "torn")
            if any(word.startswith("hydra.run.dir=") for word in typed):  # a folder that Hydra makes, as it is told
                left = []
        if left and why is None and typed[0] != "report":
            why = f"left behind: {left}"
        if why:
            wrong += 1
            say(f"--- input {seed} {number}: {typed!r}\n{why}")
    raise AssertionError


def sound(root: Path, before: dict[str, dict]) -> str | None:
    """Whether every study's row is as before, or says that it is damaged, or that it is not done."""
    for row in records.rows(root):
        known = before.get(row["study_id"], {})  # less what only `sweep.json` says
        if row["status"] == "done" and any(row[key] != value for key, value in known.items() if key in row):
            return f"{row['study_id']}: another row than before, and said to be sound"
    return None


def mutate(chance: random.Random, root: Path) -> str:
    """Damage one file, or two, in some way; returns what was done."""
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".npz", ".txt")
    )
    path = chance.choice(files)
    kind = chance.choice(["way", "way", "bytes", "value", "value", "key", "swap", "line"])
    if kind == "way":
        way = chance.choice(list(WAYS))
        WAYS[way](path)
        return f"{path.relative_to(root)}: {way}"
    if kind == "swap":
        other = chance.choice([file for file in files if file.name == path.name])
        if other != path:
            swap(path, other)
        return f"{path.relative_to(root)} for {other.relative_to(root)}"
    if kind == "bytes" or path.suffix == ".npz":
        content = bytearray(path.read_bytes() or b" ")
        for _ in range(chance.choice([1, 1, 5])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(bytes(content))
        return f"{path.relative_to(root)}: bytes"
    if kind == "line" or path.suffix != ".json":
        lines = path.read_text(errors="replace").splitlines() or [""]
        lines[chance.randrange(len(lines))] = chance.choice(
            ["", "{}", "null", '{"step": 1}', '{"step": "x", "kl_bits": 1}']
        )
        path.write_text("\n".join(lines))
        return f"{path.relative_to(root)}: a line"
    try:
        inner = record = json.loads(path.read_text(errors="replace"))
    except (ValueError, RecursionError):
        return "nothing more"
    while isinstance(inner, dict) and inner and (key := chance.choice(list(inner))) is not None:
        if not isinstance(inner[key], dict) or not inner[key] or chance.random() < 0.4:
            break
        inner = inner[key]
    odd = [None, True, 1, -1.5, 1e308, "x", "[/x]", [], [None], {}, {"a": None}, "x" * 1000, 10**400]
    if not isinstance(inner, dict) or not inner:
        return "nothing"
    if kind == "key":
        del inner[key]
    else:
        inner[key] = chance.choice(odd)
    sealed = record
    if chance.random() < 0.7 and path.name in ("study.json", "result.json"):  # by somebody who knows about seals
        from windtunnel.records.door import sealed as seal

        sealed = seal(record)
    path.write_text(json.dumps(sealed))
    return f"{path.relative_to(root)}: {kind} {key}{' sealed' if sealed is not record else ''}"


READS = [
    ["table"], ["table", "--format", "csv"], ["table", "--format", "md"], ["table", "--format", "latex"], ["status"],
    ["table", "--by", "tunnel"], ["table", "--compare", "bam,rope"], ["table", "--metric", "kl_bits"],
]  # fmt: skip


def records_fuzz(seconds: float, seed: int, say: Callable[[str], object] = print, draw: bool = True) -> tuple[int, int]:
    """(tries, how many of them were wrong)."""
    from tests.report.made import curved, kl, sweep

    until, wrong = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as scratch, mock.patch("os.fsync"):
        whole = curved(
            sweep(Path(scratch) / "whole", {"bam": [*kl(0.001, 0.002), {"error": "x"}], "rope": kl(0.1, 0.2)})
        )
        counts = dict.fromkeys(("step", "steps", "saved", "steady_seconds", "compilations", "compile_seconds"), 1)
        note = {"studies": ["positionbam-seed0"], "what": "training", **counts, "host": "h", "process": 1}
        records.write_json(whole / "packs/p.json", note)
        records.write_json(
            whole / "slurm/jobs.json", {"jobs": [{"id": "1", "log": "x", "studies": ["positionbam-seed1"]}]}
        )
        records.write_json(whole / "positionbam-seed0/probe.json", {"geometry": {"keys": {"best": 0, "heads": []}}})
        before = {row["study_id"]: row for row in records.rows(whole)}
        for number in itertools.count():
            if time.monotonic() > until:
                return number, wrong
            chance = random.Random(f"{seed} {number}")
            root = Path(scratch) / "trial"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(whole, root)
            done = [mutate(chance, root) for _ in range(chance.choice([1, 1, 2, 4]))]
            read = chance.choice(READS) if not draw or chance.random() < 0.97 else ["report"]
            target = root if chance.random() < 0.7 or "--compare" in read else root / chance.choice(sorted(before))
            why = wrong_with(Path(scratch), [read[0], str(target), *read[1:]])
            forged = any(what.endswith("sealed") for what in done)
            why = why or (None if forged else _quietly(lambda root=root: sound(root, before)))
            why = why or _quietly(lambda root=root: records.write_results(root) and None)
            if why:
                wrong += 1
                say(f"--- records {seed} {number}: {done} {read} {target.name}\n{why}")
    raise AssertionError


def _quietly(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except Exception as error:
        from windtunnel.errors import BadInput

        return None if isinstance(error, BadInput) else traceback.format_exc()


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # before anything else asks for it
    kind, seconds, *rest = sys.argv[1:]
    fuzz = {"input": input_fuzz, "records": records_fuzz}[kind]
    tries, wrong = fuzz(float(seconds), int(rest[0]) if rest else 0)
    print(f"{kind}: {tries} tries, {wrong} wrong")
    sys.exit(wrong > 0)

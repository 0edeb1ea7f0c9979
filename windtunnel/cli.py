"""The command line: it parses arguments and imports each command only when needed, so that help is fast.

Exit codes: 0 done, 1 a study failed, or a record is damaged or could not be written, 2 bad input, 128 + n stopped by
signal n.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from windtunnel import __version__
from windtunnel.errors import EXPECTED, BadInput, CannotWrite, Interrupted, StudyFailed, Unexpected, no_such
from windtunnel.instruments import INSTRUMENTS
from windtunnel.text import speak_plainly

EPILOG = """\
windtunnel run                                              the default study, judged, in about a minute
windtunnel run tunnel=bijection tunnel.symbols=20           another tunnel
windtunnel run +sweep=extrapolation                         a named sweep
windtunnel run -m tunnel.noise=0.01,0.1 'seed=range(8)'     any Hydra multirun
windtunnel status runs/extrapolation                        done, running, failed, cut off, waiting
windtunnel evaluate runs/extrapolation reach=500            judge again, at a longer reach
windtunnel probe runs/extrapolation consistency             which head is the posterior?
windtunnel report runs/extrapolation                        one page with tables and figures
windtunnel export tunnel=recall train=100 to=DIR            a problem, for a model of your own …
windtunnel judge DIR predictions.npz name=mine              … and the verdict on it
windtunnel verify recall                                    is this oracle exact?
"""

# Our own flags, and the settings that they set.
OWN = {"--dry-run": "dry_run", "--fail-fast": "fail_fast", "--force": "force"}
FORMATS = ("rich", "csv", "md", "latex", "parquet")  # of tables

TRUST = "run the code of every plug-in that the records name (else name it: plugins=FILE)"

# Flags that are passed on to Hydra.
FLAGS = frozenset("-m --multirun -c --cfg -i --info --resolve -p --package -cd --config-dir --hydra-help".split())

COMPUTING = ("export", "judge", "probe")  # ask the canary first; run, evaluate and verify do when they take the cores
MOST_LETTERS = 600  # of an error's line: a value may be longer than a screen


def command() -> None:
    """The program. Where a file could not be written, threads of the checkpoint library wait for minutes for a
    checkpoint that will never be whole: the process ends without them.
    """
    try:
        main()
    except SystemExit as end:
        if isinstance(end.__cause__, CannotWrite):
            sys.stderr.flush()
            os._exit(1)
        raise


def main() -> None:
    """`windtunnel COMMAND …`, which ends with `SystemExit` where anything went wrong."""
    # Before JAX is imported: else XLA says, in two long lines for every program that is found compiled, that no
    # processor has "features" which are hints to the compiler. Errors come as exceptions; what is fatal is still said.
    # (1 is what JAX itself leaves behind in a script that calls this program.)
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    speak_plainly()
    try:
        try:
            dispatch(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BadInput as error:
        complain(error)
        sys.exit(2)
    except StudyFailed:
        sys.exit(1)
    except CannotWrite as error:
        complain(error)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Interrupted) else Interrupted()
        complain(stopped)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:  # whoever read our output has seen enough
        _let_go_of_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # of a path that was typed, or else of output: records say `CannotWrite`
        if error.filename is None:
            _let_go_of_output()
        complain(f"{error.filename or 'standard output'}: {error.strerror}")
        sys.exit(1 if error.filename is None else 2)


def complain(error: object) -> None:
    """Print what is wrong, in one line."""
    line = " ".join(str(error).split("\n"))
    if len(line) > MOST_LETTERS:
        line = f"{line[: MOST_LETTERS // 2]} … {line[-MOST_LETTERS // 2 :]}"
    print(f"windtunnel: {line}", file=sys.stderr)


def _let_go_of_output() -> None:
    """Python writes what is left when it ends, and would complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["run"] and arguments[1:] not in (["-h"], ["--help"]):
        return run(arguments[1:])
    parser = Parser(
        prog="windtunnel",
        description="Is attention Bayesian inference? Small models against exact posteriors, in bits.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser("run", help="train and judge a study, a named sweep or any Hydra multirun")
    sub.add_argument("overrides", nargs="*", help="Hydra overrides; `windtunnel list` shows what there is")
    sub.add_argument("--dry-run", action="store_true", help="list points, packs, parameters and memory; train nothing")
    sub.add_argument("--fail-fast", action="store_true", help="stop at the first study that fails")
    sub.add_argument("--force", action="store_true", help="start afresh, in a new folder NAME-2, NAME-3, …")
    sub = commands.add_parser("export", help="write a problem out, for models from outside")
    sub.add_argument("words", nargs="+", metavar="KEY=VALUE", help="to=DIR, train=N, answers=, text=, and overrides")
    sub = commands.add_parser("judge", help="hold predictions of a model from outside against a problem")
    sub.add_argument("folder", type=Path, help="what export wrote")
    sub.add_argument("file", type=Path, metavar="PREDICTIONS", help="an npz file of log_q or logits, and id")
    sub.add_argument("words", nargs="+", metavar="KEY=VALUE", help="name=, and seed=, runs=, plugins=")
    sub = commands.add_parser("evaluate", help="judge finished studies again, with other evaluate settings")
    sub.add_argument("folder", type=Path)
    sub.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="fields of `evaluate`, as in reach=500; plugins=FILE"
    )
    sub.add_argument("--trust", action="store_true", help=TRUST)
    sub = commands.add_parser("table", help="the table of a sweep or the verdict of a study")
    sub.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    sub.add_argument("--by", metavar="KEY,…", help="what to group by, instead of everything that was swept")
    sub.add_argument("--metric", metavar="NAME,…", help="which columns of results.csv to show")
    sub.add_argument("--format", choices=FORMATS, default="rich")
    sub.add_argument("--compare", metavar="A,B", help="two groups held against each other: effect in bits, p")
    sub = commands.add_parser("status", help="what of a sweep is done, running, failed, cut off or waiting, and why")
    sub.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="of a sweep, a study or all runs")
    sub.add_argument("--watch", action="store_true", help="of a running sweep, live, with the alarms of its monitors")
    sub = commands.add_parser("probe", help="what happens inside finished studies, each number beside its null")
    sub.add_argument("folder", type=Path)
    every = f"or a plug-in's file; none: all of {', '.join(INSTRUMENTS)}"
    sub.add_argument("instruments", nargs="*", metavar="INSTRUMENT", help=f"{every}; plugins=FILE")
    sub.add_argument("--trust", action="store_true", help=TRUST)
    sub = commands.add_parser("report", help="one HTML page of a sweep, with its figures as SVG and PDF")
    sub.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    sub = commands.add_parser("verify", help="let tunnels prove their exact posterior against brute force")
    sub.add_argument("tunnels", nargs="*", metavar="TUNNEL", help="or a plugin's file; none: all")
    sub = commands.add_parser("list", help="tunnels, priors, models, positions, training presets and sweeps")
    sub.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own, as for run")
    options = parser.parse_args(arguments)
    if options.command in COMPUTING:
        from windtunnel.cache import keep_compiled
        from windtunnel.canary import check_compiler

        check_compiler()
        keep_compiled()
    if options.command == "export":
        from windtunnel.external.commands import export

        export(options.words)
    elif options.command == "judge":
        from windtunnel.external.commands import judge

        judge(options.folder, options.file, options.words)
    elif options.command == "evaluate":
        from windtunnel.sweep.run import evaluate

        evaluate(options.folder, options.settings, options.trust)
    elif options.command == "table":
        from windtunnel.report.tables import show

        show(options.folders, options.by, options.metric, options.format, options.compare)
    elif options.command == "status":
        from windtunnel.report.status import show as show_status
        from windtunnel.report.watch import watch

        (watch if options.watch else show_status)(options.folder)
    elif options.command == "probe":
        from windtunnel.report.probe import probe

        probe(options.folder, options.instruments, options.trust)
    elif options.command == "report":
        from windtunnel.report.page import report

        report(options.folders)
    elif options.command == "verify":
        from windtunnel.verify import verify

        verify(options.tunnels)
    elif options.command == "list":
        from windtunnel.report.tables import show_choices

        show_choices(options.config_dir)


def run(arguments: list[str]) -> None:
    """Call Hydra, with two changes: errors are printed in one line, and `+sweep=…` implies `-m`."""
    unknown = [
        argument for argument in arguments if argument[:1] == "-" and argument.split("=")[0] not in FLAGS | OWN.keys()
    ]
    if unknown:
        raise BadInput(f"{unknown[0]}: {no_such(unknown[0], sorted([*OWN, *FLAGS]))}")
    arguments = [f"{OWN[argument]}=true" if argument in OWN else argument for argument in arguments]
    dry = next((argument for argument in arguments if argument.split("=")[0] in OWN), None)
    if dry:
        raise BadInput(f"{dry}: takes no value; give {dry.split('=')[0]} alone")
    modes = {"-m", "--multirun", "-c", "--cfg", "-i", "--info"}
    launched = any(argument.startswith(("+sweep=", "+twin=", "hydra/launcher=")) for argument in arguments)
    if launched and not modes & set(arguments):
        arguments = ["-m", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
    import hydra

    from windtunnel.messages import check_flags, check_sweep, one_line, settled
    from windtunnel.presets import folder

    arguments = settled(arguments)
    sys.argv = ["windtunnel", *arguments]
    check_flags(arguments)
    check_sweep(arguments)

    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        os.environ["WINDTUNNEL_SCRATCH"] = scratch
        try:
            hydra.main(version_base="1.3", config_path=str(folder()), config_name="config")(task)()
        except (*EXPECTED, BrokenPipeError):
            raise
        except Unexpected as error:
            raise error.__cause__ or error from None
        except SystemExit as end:  # Hydra has printed a line
            sys.exit(2 if end.code == 1 else end.code)
        except Exception as error:  # whatever Hydra raises before a run begins
            raise BadInput(one_line(error, arguments)) from None
        for error in ended():
            raise error


def task(config: Any) -> None:
    """Run one study. Hydra calls this, in this process or in one that a launcher started."""
    from windtunnel.sweep.launcher import single

    earlier = ended()
    if any(isinstance(error, BadInput) for error in earlier) or (earlier and config.fail_fast):
        return
    try:
        try:
            single(config)
        except (*EXPECTED, Unexpected):
            raise
        except Exception as error:  # whatever the configuration made Hydra, omegaconf or Python raise
            from hydra.core.hydra_config import HydraConfig

            from windtunnel.compose import typed
            from windtunnel.messages import one_line

            raise BadInput(one_line(error, typed(HydraConfig.get()))) from None
    except EXPECTED as error:  # Hydra would add lines of its own, and launchers would lose the error
        kind = next(index for index, of in enumerate(EXPECTED) if isinstance(error, of))
        said = [str(error)] if isinstance(error, BadInput) else [str(argument) for argument in error.args]
        file, _ = tempfile.mkstemp(prefix="ended-", suffix=".json", dir=os.environ["WINDTUNNEL_SCRATCH"])
        os.write(file, json.dumps([kind, said]).encode())
        os.close(file)


def ended() -> list[Exception]:
    """The expected errors of this command's studies, the gravest first."""
    paths = Path(os.environ["WINDTUNNEL_SCRATCH"]).glob("ended-*.json")
    return [EXPECTED[kind](*said) for kind, said in sorted(json.loads(path.read_bytes()) for path in paths)]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (windtunnel --help)")


if __name__ == "__main__":
    command()

"""The command line: parse, import lazily, hand over. Exit codes: 0 done, 1 a study failed, 2 bad input."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from windtunnel import __version__
from windtunnel.errors import BadInput, StudyFailed, no_such
from windtunnel.instruments import INSTRUMENTS

EPILOG = """\
windtunnel run                                              the default study, judged, in about a minute
windtunnel run tunnel=bijection tunnel.symbols=20           another tunnel
windtunnel run +sweep=extrapolation                         a named sweep
windtunnel run -m tunnel.noise=0.01,0.1 'seed=range(8)'     any Hydra multirun
windtunnel evaluate runs/extrapolation reach=500            judge again, at a longer reach
windtunnel probe runs/extrapolation consistency             which head is the posterior?
windtunnel verify recall                                    is this oracle exact?
"""

# Hydra's flags that are passed on.
FLAGS = frozenset("-m --multirun -c --cfg -i --info --resolve -p --package -cd --config-dir --hydra-help".split())


def main() -> None:
    """`windtunnel COMMAND …`"""
    try:
        dispatch(sys.argv[1:])
    except BadInput as error:
        print(f"windtunnel: {error}", file=sys.stderr)
        sys.exit(2)
    except StudyFailed:
        sys.exit(1)
    except KeyboardInterrupt:
        print("windtunnel: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


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
    sub = commands.add_parser("evaluate", help="judge finished studies again, with other evaluate settings")
    sub.add_argument("folder", type=Path)
    sub.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="fields of `evaluate`, as in reach=500")
    sub = commands.add_parser("table", help="the table of a sweep or the verdict of a study")
    sub.add_argument("folder", type=Path)
    sub = commands.add_parser("probe", help="what happens inside finished studies, each number beside its null")
    sub.add_argument("folder", type=Path)
    sub.add_argument("instruments", nargs="*", metavar="INSTRUMENT", help=f"none: all of {', '.join(INSTRUMENTS)}")
    sub = commands.add_parser("verify", help="let tunnels prove their exact posterior against brute force")
    sub.add_argument("tunnels", nargs="*", metavar="TUNNEL", help="none: all")
    commands.add_parser("list", help="tunnels, priors, models, positions, training presets and sweeps")
    options = parser.parse_args(arguments)
    if options.command == "evaluate":
        from windtunnel.sweep.run import evaluate

        evaluate(options.folder, options.settings)
    elif options.command == "table":
        from windtunnel.report.tables import show

        show(options.folder)
    elif options.command == "probe":
        from windtunnel.instruments.probe import probe

        probe(options.folder, options.instruments)
    elif options.command == "verify":
        from windtunnel.verify import verify

        verify(options.tunnels)
    elif options.command == "list":
        from windtunnel.report.tables import show_choices

        show_choices()


def run(arguments: list[str]) -> None:
    """Hand over to Hydra. It reads sys.argv itself, prints its own errors and knows no `+sweep` without `-m`."""
    unknown = [argument for argument in arguments if argument[:1] == "-" and argument.split("=")[0] not in FLAGS]
    if unknown:
        raise BadInput(f"{unknown[0]}: {no_such(unknown[0], sorted(FLAGS))}")
    modes = {"-m", "--multirun", "-c", "--cfg", "-i", "--info"}
    if any(argument.startswith("+sweep=") for argument in arguments) and not modes & set(arguments):
        arguments = ["-m", *arguments]
    sys.argv = ["windtunnel", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as exceptions, not as printed pages
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from windtunnel.conf import folder

    ended: list[Exception] = []

    def task(config: object) -> None:
        from windtunnel.sweep.launcher import single

        try:
            single(config)
        except (BadInput, StudyFailed) as error:  # Hydra would print lines of its own around it
            ended.append(error)

    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        os.environ["WINDTUNNEL_SCRATCH"] = scratch
        try:
            hydra.main(version_base="1.3", config_path=str(folder()), config_name="config")(task)()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            hydras = any(phrase in str(error) for phrase in ("Config group", "Only one of"))
            if isinstance(error, BadInput) or (type(error) is ValueError and not hydras):
                raise
            from windtunnel.messages import one_line

            raise BadInput(one_line(error, arguments)) from None
    if ended:
        raise ended[0]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (windtunnel --help)")


if __name__ == "__main__":
    main()

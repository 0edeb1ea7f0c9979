"""Hydra's errors, each in one line that names the key, the value and what would be valid."""

import itertools
import re
from pathlib import Path
from typing import Any, NoReturn

from windtunnel import text
from windtunnel.errors import BadInput, no_such
from windtunnel.presets import ADDED, folder

_GROUP = re.compile(
    r"Could not find '(?P<group>[\w/]+)/(?P<name>[^']+)'.*?Available options in '[^']+':\n(?P<valid>.*?)(\n\S|$)", re.S
)
_ABSENT = re.compile(r"Could not override '(?P<key>[^'@]*)'")  # a group of which the default configuration has none
_KEY = re.compile(r"is not in struct.*?full_key: (?P<key>[\w.]+)", re.S)
_GROUPS = re.compile(r"(tunnel|prior|model|position|train|\+term|\+inference|\+bayesian_attention|hydra/launcher)=\w+")
_PLAIN = re.compile(r"[\w./+\-%@?:\\ ]*", re.ASCII)  # a value that needs no quotes


def check_flags(arguments: list[str]) -> None:
    """Hydra's own flags, by its own parser, which would print a page."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise BadInput(f"{message.removeprefix('argument ')} (windtunnel run --help)")

    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.resolve and flags.cfg is None:
        raise BadInput("--resolve: goes with --cfg job, which shows the configuration")
    if flags.package is not None and flags.cfg is None:
        raise BadInput(f"--package {flags.package}: goes with --cfg job, which shows a part of the configuration")


def check_sweep(arguments: list[str]) -> None:
    """Refuse a launcher that a sweep's file chooses: the main configuration's wins over it, and Hydra says nothing."""
    for name in (one.partition("=")[2] for one in arguments if one.startswith("+sweep=")):
        for parent in (*map(Path, _added(arguments)), folder()):
            path = parent / "sweep" / f"{name}.yaml"
            if path.is_file() and (line := re.search(r"override /?hydra/launcher:.*", text.read(path))):
                raise BadInput(f"{path}: {line[0]}: a launcher is chosen on the command line: hydra/launcher=NAME")


def _added(arguments: list[str]) -> list[str]:
    """The config folders of the user's own."""
    folders = [after for flag, after in itertools.pairwise(arguments) if flag in ("--config-dir", "-cd")]
    return folders + [argument.partition("=")[2] for argument in arguments if argument.startswith("--config-dir=")]


def settled(arguments: list[str]) -> list[str]:
    """The arguments as Hydra can read them: `-m` first; and where a group is swept, fields of it as sweeps of one
    value, because Hydra otherwise looks for them in the group's default too.
    """
    multirun = {"-m", "--multirun"} & set(arguments)
    if not multirun:
        return arguments
    swept = {key for key, _, value in (one.partition("=") for one in arguments) if re.search(r"[,(]", value)}
    rest = [
        re.sub(r"=(.*)", r"=choice(\1)", one)
        if (field := re.fullmatch(r"(\w+)\.[\w.]+=[\w.+-]+", one)) and field[1] in swept
        else one
        for one in arguments
        if one not in multirun
    ]
    return ["-m", *rest]


def one_line(error: BaseException, arguments: list[str]) -> str:
    """The message of an error in one line; `arguments` are those of the command line, or of a point of a sweep."""
    whole = "\n".join([str(error), str(error.__cause__ or "")])
    if isinstance(error, RecursionError):
        return f"{_longest(arguments)}: too deeply nested"
    if isinstance(error, OSError) and not _is_hydras(error):
        return f"{error.filename}: {error.strerror}" if error.filename else whole.strip()
    if unread := _unread(arguments):
        return unread
    if group := _GROUP.search(whole):
        return f"{group['group']}={group['name']}: {no_such(group['name'], group['valid'].split())}"
    key = _KEY.search(whole)
    if (absent := _ABSENT.search(whole) or key) and absent["key"] in ADDED:
        return (
            f"{absent['key']}: is added to the configuration: +{absent['key']}=NAME; `windtunnel list` shows the names"
        )
    if key:
        parent, _, name = key["key"].rpartition(".")
        given = f" (with {', '.join(chosen)})" if parent and (chosen := _chosen(arguments, parent)) else ""
        return f"{key['key']}: {no_such(name, _siblings(key['key'], arguments))}{given}"
    if "group override must be a string" in whole:
        odd = _group_value(arguments)
        named = f"{odd}: a group takes a name, not {odd.partition('=')[2]}" if odd else "a group takes a name"
        return f"{named}; `windtunnel list` shows them"
    said = " ".join(line.strip() for line in whole.splitlines() if line.strip())
    return said if _is_hydras(error) else f"{_named(error, arguments)}{said}"


def _is_hydras(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("hydra", "omegaconf")


def _named(error: BaseException, arguments: list[str]) -> str:
    """What an error that only means something to programmers is about: everything that was typed."""
    return f"{' '.join(arguments) or 'the configuration'}: cannot be composed, {type(error).__name__}: "


def _unread(arguments: list[str]) -> str | None:
    """Of an override that Hydra's grammar cannot read: that it needs quotes, and how."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    for argument in _overrides(arguments):
        if argument.startswith("="):
            return f"{argument}: should be KEY=VALUE"
        try:
            parser.parse_override(argument)
        except Exception as error:  # the parser's generated code raises errors of its own
            key, equals, value = argument.partition("=")
            if not equals:
                return f"{argument}: should be KEY=VALUE"
            if isinstance(error, RecursionError):
                return f"{key}={value[:40]}…: too deeply nested"
            why = " ".join(str(error).split("\n")[0].split()) if _is_hydras(error) else ""
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            hint = "" if _PLAIN.fullmatch(value) else f"; such a value needs quotes: '{key}=\"{quoted}\"'"
            return f"{argument}: cannot be read{f' ({why})' if why else ''}{hint}"
    return None


def _overrides(arguments: list[str]) -> list[str]:
    """The arguments that are no flags, and no values of flags."""
    values = {after for flag, after in itertools.pairwise(arguments) if flag in ("--config-dir", "-cd", "--cfg", "-c")}
    return [argument for argument in arguments if argument[:1] != "-" and argument not in values]


def _longest(arguments: list[str]) -> str:
    longest = max(arguments, key=len, default="")
    return longest if len(longest) < 60 else f"{longest[:60]}…"


def _group_value(arguments: list[str]) -> str:
    """The first choice of a group that is no name, as in `tunnel=5`."""
    groups = {path.name for path in folder().iterdir() if path.is_dir()}
    odd = [
        one for one in arguments if one.partition("=")[0] in groups and not re.match(r"\w*[a-zA-Z]\w*=[a-z]\w*$", one)
    ]
    nothing = [
        one for one in arguments if one.partition("=")[0] in groups and one.partition("=")[2] in ("null", "true")
    ]
    return next(iter([*nothing, *odd]), "")


def _chosen(arguments: list[str], parent: str) -> list[str]:
    """The choice that the keys under `parent` come from."""
    group = parent.partition(".")[0]
    return [argument for argument in arguments if re.fullmatch(rf"{group}=\w+", argument)]


def _siblings(key: str, arguments: list[str]) -> list[str]:
    """The keys that exist beside `key`, which does not, in the configuration of the chosen groups alone."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    folders = _added(arguments)
    search_path = (
        [f"hydra.searchpath=[{','.join(f'file://{Path(added).resolve()}' for added in folders)}]"] if folders else []
    )
    chosen = [argument for argument in arguments if _GROUPS.fullmatch(argument)]
    state: Any = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(folder()), version_base="1.3"):
            config = compose("config", return_hydra_config=key.startswith("hydra."), overrides=[*chosen, *search_path])
    except Exception:  # what would be valid is only a help
        return []
    finally:
        GlobalHydra.instance().hydra = state
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    return sorted(node) if OmegaConf.is_dict(node) else []

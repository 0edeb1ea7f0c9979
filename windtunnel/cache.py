"""Compiled programs kept from run to run, in the user's cache folder or in the one that `compilation_cache` names.

Two caches stand in one folder. JAX's own keeps whatever XLA compiled, by the program that was lowered. Ours keeps the
programs of `Compiled`, by the text of this package and what they are called with: found there, a program is not even
traced. A folder of each has a name that says what its code may run on (`identity`): a home folder may be shared by
machines whose processors differ, and XLA does not refuse code of another processor.

Nothing here is ever missed: what is damaged, cannot be read or cannot be written is compiled again.
"""

import contextlib
import functools
import hashlib
import json
import pickle
import sys
import threading
import warnings
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.experimental.serialize_executable import deserialize_and_load, serialize

import windtunnel
from windtunnel import canary, home, spec

DEFAULT = "default"  # the setting that stands for the user's cache folder
MOST_BYTES = 500_000_000  # of all folders together; a study of the usual size takes about one million
WORTH = 0.2  # seconds of compiling, above which a program is kept by its source
HIT = "/jax/compilation_cache/cache_hits"
UNREADABLE = "Error reading persistent compilation cache entry for '"  # the beginning of JAX's warning
UNWRITABLE = "Error writing persistent compilation cache entry for '"


class Kept:
    """Where programs are kept in this process; nowhere before `keep_compiled`."""

    folder: Path | None = None
    listening = False
    pruned = False


class OfThread(threading.local):
    count = 0  # programs that JAX found in its cache, in this thread: JAX says it to the thread that compiles


Found = OfThread()


def keep_compiled(setting: str | None = DEFAULT) -> None:
    """From now on, look for compiled programs before compiling, and keep what is compiled. Must come after the canary,
    which has to ask the compiler itself. `None`, or JAX's own `JAX_ENABLE_COMPILATION_CACHE=false`, turns both off.
    """
    Kept.folder = None
    if setting is not None and getattr(jax.config, "jax_enable_compilation_cache", True):
        try:
            Kept.folder = _root(setting) / _digest(canary.identity())[:16]
            Kept.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # no home, or none that can be written
            Kept.folder = None
    reset_cache()  # it remembers the folder of an earlier call
    jax.config.update("jax_compilation_cache_dir", None if Kept.folder is None else str(Kept.folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not Kept.listening:
        Kept.listening = True
        jax.monitoring.register_event_listener(_listen)
    if getattr(warnings.showwarning, "func", None) is not _shown:
        warnings.showwarning = functools.partial(_shown, warnings.showwarning)


def _root(setting: str) -> Path:
    given = getattr(jax.config, "jax_compilation_cache_dir", None) if not Kept.listening else None
    return Path(setting if setting != DEFAULT else given or home.folder() / "programs").absolute()


def _listen(event: str, **_: Any) -> None:
    Found.count += event == HIT


def _shown(show: Any, message: Warning | str, *rest: Any, **options: Any) -> None:
    """JAX warns of an entry that it cannot read, compiles, and leaves the entry as it is: so it is removed here, and
    the program is kept anew. The warning names the program alone, so all entries of its name go.
    """
    text = str(message)
    if text.startswith(UNREADABLE) and Kept.folder is not None:
        for path in Kept.folder.glob(f"{text.removeprefix(UNREADABLE).split(chr(39))[0]}-*"):
            _remove(path)
    elif not text.startswith(UNWRITABLE):
        show(message, *rest, **options)


def key(name: Any, function: Any, arguments: Any) -> str | None:
    """What a program is kept by: everything that tracing and compiling may read. None where that is not known: a
    plug-in may import anything, and with several processes each compiles a part.
    """
    if Kept.folder is None or spec.sources or jax.process_count() > 1:
        return None
    leaves, structure = jax.tree.flatten(arguments)
    facts = {
        "name": repr(name),
        "function": f"{function.__module__}.{function.__qualname__}",
        "structure": repr(structure),
        "leaves": [_described(leaf) for leaf in leaves],
        "devices": [repr(device) for device in jax.devices()],
        # Pallas, which we do not use, adds settings of its own when something imports it.
        "settings": {name: repr(getattr(jax.config, name, value)) for name, value in jax.config.values.items()
                     if "cache" not in name and "pallas" not in name},
        "source": source(),
    }  # fmt: skip
    return _digest(facts)


def _described(leaf: Any) -> str:
    sharding = getattr(leaf, "sharding", None)
    return f"{jax.typeof(leaf)!r} {bool(getattr(leaf, 'weak_type', False))} {sharding!r}"


@functools.cache
def source() -> str:
    """Of this package, and of what it is built on."""
    folder = Path(windtunnel.__file__).parent
    texts = [f"{path.relative_to(folder)}\n{path.read_text(encoding='utf-8')}" for path in sorted(folder.rglob("*.py"))]
    return _digest([sys.version, *(version(name) for name in ("flax", "optax", "numpy")), texts])


def holds(key: str | None) -> bool:
    """Whether there is a program by this key, which may be damaged."""
    path = _path(key)
    return path is not None and path.exists()


def load(key: str | None) -> Any:
    """The program kept by this key, ready to be called, or None."""
    path = _path(key)
    if path is None or not path.exists():
        return None
    try:
        numbers, program = pickle.loads(zlib.decompress(path.read_bytes()))  # which checks a sum before anything is run
        path.touch()
        _provide()
        by_number = {device.id: device for device in jax.local_devices()}
        return deserialize_and_load(*program, execution_devices=[by_number[number] for number in numbers])
    except Exception:  # whatever a damaged file raises
        _remove(path)
        return None


@functools.cache
def _provide() -> None:
    """JAX loads LAPACK when it lowers what needs it: what is found compiled was not lowered, and would call nothing."""
    jax.jit(jax.lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), "float32"))


def store(key: str | None, program: Any) -> None:
    """Keep a compiled program."""
    path = _path(key)
    if path is None:
        return
    try:
        numbers = [device.id for device in program.runtime_executable().local_devices()]
        content = zlib.compress(pickle.dumps((numbers, serialize(program))), level=1)
    except Exception:  # not every program can be kept: whatever keeps this one from it
        return
    home.keep(path, content)
    if not Kept.pruned and Kept.folder is not None:
        Kept.pruned = True
        prune(Kept.folder.parent, MOST_BYTES)


def prune(root: Path, most: int) -> None:
    """Remove what was not used for longest, until files take at most so many bytes."""
    used = []
    for path in root.rglob("*"):
        try:
            stat = path.stat()
            if path.is_file():
                used.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
        except OSError:  # another process was faster
            continue
    excess = sum(size for _, size, _ in used) - most
    for _, size, path in sorted(used):
        if excess <= 0:
            break
        _remove(path)
        excess -= size


def _path(key: str | None) -> Path | None:
    return None if key is None or Kept.folder is None else Kept.folder / f"{key}.program"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

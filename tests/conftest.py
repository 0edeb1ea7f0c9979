"""Strict by default: oracles are tested in float64 and nothing broadcasts by accident. And every program is compiled
once, whichever worker or process needs it first.
"""

import functools
import gc
import os
from pathlib import Path

# Else XLA says on stderr of every program that it finds compiled that no processor has some "feature" of its own.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
import pytest
from hypothesis import settings

from windtunnel import cache
from windtunnel.compiled import HASTE

jax.config.update("jax_num_cpu_devices", 2)
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xdg")
os.environ.setdefault("WINDTUNNEL_SCRATCH", "/tmp")
settings.register_profile("windtunnel", deadline=None, derandomize=True)
settings.load_profile("windtunnel")

COMPILED = {
    "jax_compilation_cache_dir": str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
# We keep programs by the text of the package, and tests replace parts of it: only processes of their own find those.
cache.key = functools.wraps(cache.key)(lambda *arguments: None)
IN_HASTE = " ".join(f"--{name}={int(value)}" for name, value in HASTE.items())


def pytest_configure(config):
    """Most of the time goes into compiling programs that run for a moment: in haste among the fast tests, where both
    runs of whatever is compared are compiled alike (`compiled.HASTE`, which takes a third off the suite's time beside
    the level of optimisation alone). Slow tests compile as people do.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr == "not slow" and IN_HASTE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {IN_HASTE}".strip()
    for name, value in COMPILED.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


@pytest.fixture(scope="module", autouse=True)
def memory():
    """What a module compiled is forgotten after it: gigabytes, if all were kept."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def x64():
    """Float64, and no implicit broadcasting between ranks."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield

"""Strict by default: oracles are tested in float64 and nothing broadcasts by accident."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)
# Programs are kept by the text of the package, and tests replace parts of it: only processes of their own find some.
jax.config.update("jax_enable_compilation_cache", False)
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache/xdg")
os.environ.setdefault("WINDTUNNEL_SCRATCH", "/tmp")
settings.register_profile("windtunnel", deadline=None, derandomize=True)
settings.load_profile("windtunnel")


@pytest.fixture
def x64():
    """Float64, and no implicit broadcasting between ranks."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield

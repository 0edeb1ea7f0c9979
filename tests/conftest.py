"""Strict by default: oracles are tested in float64 and nothing broadcasts by accident."""

import os

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)
os.environ.setdefault("WINDTUNNEL_SCRATCH", "/tmp")
settings.register_profile("windtunnel", deadline=None, derandomize=True)
settings.load_profile("windtunnel")


@pytest.fixture
def x64():
    """Float64, and no implicit broadcasting between ranks."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield

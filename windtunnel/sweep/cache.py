"""Compiled programs kept from run to run, for those who ask for it."""

import platform
from pathlib import Path

import jax


def keep_compiled(folder: str | None) -> None:
    """Let XLA look up what it compiled before, in a folder of its own for this JAX, host and kind of device.

    What is compiled for one processor may not run on another, and what one release wrote another may not read.
    """
    if folder is None:
        return
    key = f"jax-{jax.__version__}-{platform.node()}-{jax.default_backend()}"
    jax.config.update("jax_compilation_cache_dir", str((Path(folder) / key).absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

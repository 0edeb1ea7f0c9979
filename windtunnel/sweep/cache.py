"""Compiled programs kept from run to run, where the setting `compilation_cache` names a folder."""

import platform
from pathlib import Path

import jax


def keep_compiled(folder: str | None) -> None:
    """Let XLA reuse what it compiled before. Each version of JAX, host and kind of device gets its own subfolder.

    A program compiled for one processor may not run on another, and one release of JAX may not read another's files.
    """
    if folder is None:
        return
    key = f"jax-{jax.__version__}-{platform.node()}-{jax.default_backend()}"
    jax.config.update("jax_compilation_cache_dir", str((Path(folder) / key).absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

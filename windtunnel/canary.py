"""A canary for the compiler: a few expressions whose answers numpy knows, run before anything is computed.

jaxlib 0.10.2 computes wrong results on a CPU for a common expression where the leading axis is 1, and evaluation runs
every oracle and every model with a leading axis of 1. Nothing downstream could notice: numbers stay plausible.
"""

import contextlib
import hashlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from windtunnel import home
from windtunnel.errors import BadInput

# (T, H, d) of Σ_d x[1, T, 1, d] h[1, 1, H, d]: each is off by more than 5 under jaxlib 0.10.2, whatever the processor.
SHAPES = (16, 64, 4), (64, 8, 16), (4, 64, 16), (64, 64, 2)
BOUND = 1e-4  # float32 keeps 5e-6 for sums of 16 products of normal numbers
# What pyproject.toml allows for this version of Python: a test holds the two together.
RIGHT = ">=0.10.0,<0.11,!=0.10.2" if sys.version_info < (3, 12) else ">=0.11.2,<0.13"

Pairs = list[tuple[np.ndarray, np.ndarray]]


def check_compiler() -> None:
    """`BadInput` where the compiler of JAX's default device computes wrong.

    Call it before the first computation and after whatever has to come before that (the number of CPU devices,
    `jax.distributed.initialize`). A good answer is kept in the user's cache folder, so that later processes pay for
    reading a file; a folder that cannot be read or written is not used.
    """
    key = identity()
    if _remembered(key):
        return
    deviation = worst_deviation()
    if not deviation <= BOUND:
        raise BadInput(
            f"jaxlib {jaxlib.__version__}: computes wrong results on this machine's {jax.default_backend()} (a sum of "
            f"products with a leading axis of 1 is off by {deviation:.2g}); install another: pip install 'jax{RIGHT}' "
            f"'jaxlib{RIGHT}'"
        )
    _remember(key)


def identity() -> dict[str, Any]:
    """What a good answer holds for: the versions, the device and what its code generator knows of it."""
    backend = jax.default_backend()
    device = processor() if backend == "cpu" else [one.device_kind for one in jax.local_devices()[:1]]
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "platform": backend,
        "device": device,
        "flags": os.environ.get("XLA_FLAGS", ""),
        "shapes": SHAPES,
    }


def processor() -> list[str]:
    """The processor's name and features, from the first of its cores; its kind alone where Linux does not say."""
    facts = [platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if not line.strip():
                    break
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "flags", "Features", "CPU implementer", "CPU part"):
                    facts.append(value.strip())
    except OSError:
        pass
    return facts


def worst_deviation() -> float:
    """The largest deviation from numpy, over all shapes; NaN counts as one."""
    random = np.random.default_rng(0)
    pairs = [
        (random.normal(size=(H, d)).astype(np.float32), random.normal(size=(1, T, d)).astype(np.float32))
        for T, H, d in SHAPES
    ]
    right = [np.einsum("btd,hd->bth", x, h) for h, x in pairs]
    return float(np.max([np.abs(a - b).max() for a, b in zip(compiled(pairs), right, strict=True)]))


def compiled(pairs: Pairs) -> list[np.ndarray]:
    """All expressions in one program, on JAX's default device."""

    def expressions(pairs: Pairs) -> list[Any]:
        return [jnp.sum(x[:, :, None] * h[None, None], axis=-1) for h, x in pairs]

    return [np.asarray(sums) for sums in jax.jit(expressions).lower(pairs).compile()(pairs)]


def _file(key: dict[str, Any]) -> Path:
    """One file for each key. `RuntimeError` where there is no home."""
    return home.folder() / f"compiler-{hashlib.sha256(_text(key).encode()).hexdigest()[:16]}.json"


def _text(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _remembered(key: dict[str, Any]) -> bool:
    try:
        return _file(key).read_text() == _text(key)
    except (OSError, RuntimeError, UnicodeDecodeError):
        return False


def _remember(key: dict[str, Any]) -> None:
    with contextlib.suppress(RuntimeError):
        home.keep(_file(key), _text(key).encode())

"""Taps: callbacks that see what a model computes, and may change it.

A model calls `tap(depth, kind, value)` with each value, and continues with what the tap returns. `depth` counts the
layers, from 0; the embedding has depth 0, the logits the depth of the last layer. Kinds: `embedding`, `queries`,
`keys`, `values`, `scores`, `attention`, `context`, `gate`, `state`, `residual`, `logits`; each model's docstring says
which it has. A tap names the kinds that it wants, and a value that is computed for taps alone is computed only if
wanted.
"""

from collections.abc import Callable
from typing import Any


class Tap:
    """Calls `look(depth, kind, value) -> value` for these kinds; for all kinds if none is named."""

    def __init__(self, look: Callable[[int, str, Any], Any], *kinds: str):
        self.look, self.kinds = look, kinds

    def wants(self, *kinds: str) -> bool:
        """Whether the tap wants any of these kinds."""
        return not self.kinds or any(kind in self.kinds for kind in kinds)

    def __call__(self, depth: int, kind: str, value: Any) -> Any:
        return self.look(depth, kind, value) if self.wants(kind) else value

    def at(self, depth: int) -> "LayerTap":
        return LayerTap(self, depth)


class LayerTap:
    """A tap for one layer, which does not know its own depth."""

    def __init__(self, tap: Tap, depth: int):
        self.tap, self.depth, self.wants = tap, depth, tap.wants

    def __call__(self, kind: str, value: Any) -> Any:
        return self.tap(self.depth, kind, value)


class Collect(Tap):
    """Keeps every value, or those of the named kinds, as `seen[kind][depth]`; changes nothing."""

    def __init__(self, *kinds: str):
        self.seen: dict[str, dict[int, Any]] = {}
        super().__init__(self._keep, *kinds)

    def __getitem__(self, kind: str) -> dict[int, Any]:
        return self.seen[kind]

    def _keep(self, depth: int, kind: str, value: Any) -> Any:
        self.seen.setdefault(kind, {})[depth] = value
        return value


class Closed(Tap):
    """Wants nothing: the tap of a model that is called without one."""

    def __init__(self) -> None:
        super().__init__(lambda depth, kind, value: value)

    def wants(self, *kinds: str) -> bool:
        return False


def as_tap(tap: Tap | Callable[[int, str, Any], Any] | None) -> Tap:
    """A plain function wants every kind; None wants nothing."""
    return tap if isinstance(tap, Tap) else Closed() if tap is None else Tap(tap)

"""Parameters as nested dicts of arrays, and the role of each parameter, by its path."""

from typing import Any, NamedTuple, Self

import jax

ROUTING = frozenset({"query", "key", "learned", "sharpness"})  # parameters of the scores of attention


class Path(NamedTuple):
    """The names that lead from the root to a parameter, as in layers · 0 · attention · query · kernel."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, path: tuple[Any, ...]) -> Self:
        """A `Path` from the path that `jax.tree_util.tree_map_with_path` passes."""
        return cls(tuple(str(getattr(part, "key", part)) for part in path))

    @property
    def is_learned_prior(self) -> bool:
        """Whether the parameter belongs to a positional prior."""
        return "learned" in self.names

    @property
    def is_matrix(self) -> bool:
        """Whether the parameter, if it has two axes, is the kernel of a linear map inside a layer. The parameters of a
        positional prior, a convolution or a decay may have two axes too, but they are not linear maps.
        """
        return "layers" in self.names and "kernel" in self.names and not self.is_learned_prior

    @property
    def is_key(self) -> bool:
        """Whether it is W_K of an attention."""
        return self.is_matrix and self.names[-3:-1] == ("attention", "key")

    @property
    def role(self) -> str:
        """The part of attention it belongs to: `routing` (the scores), `value`, `output`; `other` for the rest."""
        if "attention" not in self.names:
            return "other"
        if ROUTING & set(self.names):
            return "routing"
        return next((role for role in ("value", "output") if role in self.names), "other")


def tree_map(function: Any, params: Any) -> Any:
    """The tree of `function(path, leaf)` for every parameter."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(Path.of(path), leaf), params)


def learned_prior(params: Any, layer: int) -> dict[str, Any]:
    """The parameters of a layer's positional prior."""
    return params["layers"][str(layer)]["attention"].get("learned", {})


def parameters(module: Any) -> Any:
    """The module's learned parameters, as nested dicts of arrays."""
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def with_parameters(module: Any, params: Any) -> Any:
    """The module with these parameters in place of its own, and with what they hold of codebooks."""
    from flax import nnx

    graph, state, rest = nnx.split(module, nnx.Variable, ...)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state, rest)

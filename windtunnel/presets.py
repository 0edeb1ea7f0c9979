"""The folder of the Hydra configs, and the choices in it. Nothing here imports Hydra or JAX."""

from pathlib import Path

from windtunnel import text

GROUPS = ("tunnel", "prior", "model", "position", "train", "term", "inference", "bayesian_attention", "sweep")
ADDED = (
    "term",
    "inference",
    "bayesian_attention",
    "sweep",
)  # by `+term=NAME`: the default configuration has none


def folder() -> Path:
    """`conf/` beside the package in a checkout, inside it in a wheel."""
    here = Path(__file__).parent
    return next(path for path in (here / "conf", here.parent / "conf") if path.is_dir())


def choices(group: str, beside: Path | None = None) -> dict[str, str]:
    """{name: the first comment of its file} of a group; `beside` is a config folder of the user's own."""
    folders = [folder(), *([beside] if beside else [])]
    return {path.stem: head(path) for parent in folders for path in sorted((parent / group).glob("*.yaml"))}


def head(path: Path) -> str:
    """The first comment of a file, other than Hydra's `@package`."""
    lines = text.read(path).splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line), "")

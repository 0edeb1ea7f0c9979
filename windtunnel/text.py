"""Text in and out, whatever the locale: files are UTF-8, and a terminal that cannot show a letter shows a likeness."""

import codecs
import sys
from pathlib import Path
from typing import Any

from windtunnel.errors import BadInput

LIKENESS = {"–": "-", "—": "-", "−": "-", "‖": "||", "×": "x", "·": "|", "±": "+-", "≥": ">=", "≤": "<=", "÷": "/",
            "→": "->", "…": "...", "τ": "tau", "δ": "delta", "β": "beta", "⁶": "^6"}  # fmt: skip


def read(path: Path) -> str:
    """The text of a file, which is UTF-8. `BadInput` in one line where it cannot be read as that."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def likeness(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what cannot be encoded becomes something like it, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(LIKENESS.get(letter, "?") for letter in letters), error.end


def speak_plainly(*streams: Any) -> None:
    """Let standard output and error never fail on a letter."""
    codecs.register_error("likeness", likeness)
    for stream in streams or (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="likeness")

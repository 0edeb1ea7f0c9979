"""The expected errors of a command, each with its exit code."""

import difflib
import signal


class BadInput(ValueError):
    """Bad input. The message is one line that names the key, the value and what would be valid (exit code 2)."""


class StudyFailed(Exception):
    """A study of the run failed, or its record is damaged; what was printed says how (exit code 1)."""


class CannotWrite(Exception):
    """A record could not be written, for example on a full disk. The message says which and why (exit code 1)."""

    def __str__(self) -> str:
        path, why = self.args
        return f"{path}: cannot be written ({why}); what is there is whole, and the same command goes on from it"


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop (exit code 128 + signal, as in shells)."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"interrupted ({name}); the same command goes on from the last checkpoint"


def no_such(name: str, valid: list[str]) -> str:
    """The message about a name that does not exist."""
    valid = [other for other in valid if other not in ("name", "plugin")]
    close = difflib.get_close_matches(str(name), valid, 1)
    return f"no such name{f'; did you mean {close[0]}?' if close else ''}; valid: {', '.join(valid) or 'none'}"

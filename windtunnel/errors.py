"""The ways a command can end badly on purpose."""

import difflib


class BadInput(ValueError):
    """Bad input: its message is one line that names the key, the value and what would be valid (exit code 2)."""


class StudyFailed(Exception):
    """A study of the run failed; its record says how (exit code 1)."""


def no_such(name: str, valid: list[str]) -> str:
    """What to say of a name that does not exist."""
    valid = [other for other in valid if other != "name"]
    close = difflib.get_close_matches(str(name), valid, 1)
    return f"no such name{f'; did you mean {close[0]}?' if close else ''}; valid: {', '.join(valid) or 'none'}"

"""The ways a command can end badly on purpose."""


class BadInput(ValueError):
    """Bad input: its message is one line that names the key, the value and what would be valid (exit code 2)."""


class StudyFailed(Exception):
    """A study of the run failed; its record says how (exit code 1)."""

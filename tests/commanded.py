"""The command line without a process of its own: the same words, exit code and output, three seconds sooner.

Not for what a process decides: what is imported, signals, how many devices there are.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from windtunnel import cli


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def windtunnel(folder: Path, *arguments: str) -> Ended:
    """How the command ends, typed in this folder. Whatever Hydra and the command leave behind is cleared."""
    from hydra.core.global_hydra import GlobalHydra

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["windtunnel", *arguments]),
        mock.patch.dict(os.environ),
    ):
        GlobalHydra.instance().clear()
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        finally:
            GlobalHydra.instance().clear()
    return Ended(code, out.getvalue(), err.getvalue())

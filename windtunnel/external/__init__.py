"""Models that are not ours: a problem as they meet it, and the verdict on what they predict.

`export` writes a problem to a folder, `judge` holds predictions against it; `pose` is both in Python. The record that a
verdict leaves is like any study's, without training and parameters, so that tables and reports show it beside them.
"""

from windtunnel.external.exported import export, read
from windtunnel.external.posed import Posed, pose
from windtunnel.external.predictions import judge
from windtunnel.external.text import Text

__all__ = ["Posed", "Text", "export", "judge", "pose", "read"]

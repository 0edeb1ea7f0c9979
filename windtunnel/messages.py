"""Hydra's errors, each in one line that names the key, the value and what would be valid."""

import re

from windtunnel.config import no_such

_GROUP = re.compile(r"Could not find '(?P<group>[\w/]+)/(?P<name>[^']+)'.*?Available options in '[^']+':\n(?P<valid>.*?)(\n\S|$)", re.S)
_KEY = re.compile(r"(?:Could not override|Error merging override) '?(?P<key>[\w.+/@=-]+)'?")


def one_line(error: Exception) -> str:
    """What went wrong, in one line."""
    text = str(error)
    group = _GROUP.search(text)
    if group:
        valid = group["valid"].split()
        return f"{group['group']}={group['name']}: {no_such(group['name'], valid)}"
    lines = [line.strip() for line in (text + "\n" + str(error.__cause__ or "")).splitlines() if line.strip()]
    key = _KEY.search(text)
    if key and "is not in struct" in text + str(error.__cause__):
        name = key["key"].split("=")[0]
        return f"{name}: no such key; `windtunnel run --cfg job` shows all keys"
    return " ".join(lines)

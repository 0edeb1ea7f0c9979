"""Plug-ins in tests: afterwards nothing is known of them."""

import contextlib
from collections.abc import Iterator

from windtunnel import instruments, plugins, spec


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Whatever is loaded inside is unknown again outside."""
    families = {family: list(family.own) for family in plugins.FAMILIES.values()}
    tables = [plugins.loaded, plugins.judges, instruments.FOREIGN, instruments.INSTRUMENTS]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for family, own in families.items():
            family.own[:] = own
        for table, kept in zip(tables, before, strict=True):
            table.clear()
            table.update(kept)
        spec._adapter.cache_clear()  # which takes families that are as large for the same

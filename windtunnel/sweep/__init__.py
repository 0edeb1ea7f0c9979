"""Sweeps: points grouped into packs, driven on this machine, written down as records."""

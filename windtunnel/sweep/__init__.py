"""Sweeps: points are grouped into packs, the packs are trained and judged, and records are written."""

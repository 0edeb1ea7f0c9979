"""A small problem, posed once for all tests: it compiles in a second or two."""

from functools import cache

from windtunnel.external import Posed, pose

URN = (
    "tunnel=urn tunnel.hypotheses=10 train.horizon=8 train.batch=4 evaluate.reach=2 evaluate.examples=64 "
    "evaluate.tolerance=5e-4"
).split()


@cache
def urn() -> Posed:
    return pose(*URN)

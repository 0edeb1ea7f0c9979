"""Compose and validate a multirun of 130 points, and do nothing with them: for `bench.ready`."""

from windtunnel import cli
from windtunnel.sweep import launcher

POINTS = ["tunnel.noise=0.01,0.1", "seed=range(13)", "position=uniform,alibi,rope,bam,gaussian"]


def nothing(points: list, *_: object) -> bool:
    assert len(points) == 130
    return True


if __name__ == "__main__":
    launcher.launch.__defaults__ = (nothing,)
    cli.run(["-m", *POINTS])

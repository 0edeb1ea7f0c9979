"""What is seen while a sweep runs."""

import io

import pytest
from rich.console import Console

from windtunnel import progress
from windtunnel.progress import Display, spread


def display(monkeypatch, terminal):
    out = io.StringIO()
    recorder = Console(file=out, force_terminal=terminal, width=100, highlight=False)
    monkeypatch.setattr(progress, "console", lambda: recorder)
    return Display(400, 2), out


def test_in_a_pipe_a_line_now_and_then(monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar, out = display(monkeypatch, terminal=False)
    with bar:
        for _ in range(10):
            bar.show(1, "position=bam (2 studies)", 20, [0.5, 0.25])
    lines = out.getvalue().splitlines()
    assert 3 <= len(lines) <= 6, "not one for every call"
    assert lines[-1].startswith("180/400 steps · pack 1/2 · position=bam (2 studies) · KL 0.5 0.25 bits · ")
    assert lines[-1].endswith(" s left")


def test_time_left_is_said_once_it_is_known(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar, out = display(monkeypatch, terminal=False)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with bar:
        for seconds, steps in ((60, 0), (0, 100), (1, 1), (9, 49), (50, 0), (1, 50)):  # compiling, resumed, …
            now += seconds
            bar.show(1, "", steps)
    ends = [line.split(" · ")[-1] for line in out.getvalue().splitlines()]
    assert [end for end in ends if end.endswith("left")] == ["50 s left", "300 s left", "122 s left"]
    assert len(ends) == 6, "nothing before the first steps, and nothing in the second after them"


def test_in_a_terminal_every_pack_has_its_line_and_keeps_its_kl(monkeypatch):
    bar, out = display(monkeypatch, terminal=True)
    with bar:
        bar.say("Which prior?")
        bar.show(1, "position=[bam]", 200, [0.5, 0.25])
        bar.show(1, "position=[bam] · evaluating", 0)
        bar.show(2, "position=rope", 100, 0.125)
        bar.live.refresh()
    frame = out.getvalue().split("Which prior?")[-1]
    assert "position=[bam] · evaluating" in frame and "KL 0.5 0.25 bits" in frame and "KL 0.12 bits" in frame
    assert "pack 2 of 2" in frame and "300/400" in frame
    assert "Traceback" not in frame


@pytest.mark.parametrize(
    ("kl_bits", "text"),
    [
        (0.0312, "0.031"),
        ([0.0312, float("nan")], "0.031 nan"),
        ([6.0, 1.0, 5.0, 2.0, 4.0, 3.0, 7.0], "4 (1 to 7)"),
        ([6.0, 1.0, 5.0, 2.0, 4.0, 3.0, 7.0, float("nan")], "4 (1 to 7, 1 broken)"),
        ([float("nan")] * 6, "nan"),
    ],
)
def test_many_studies_are_told_by_their_spread(kl_bits, text):
    assert spread(kl_bits) == text

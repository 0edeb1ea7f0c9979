"""Packs are cut to fit into memory: beforehand by what XLA says, afterwards by what happens."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from tests.composed import tiny
from windtunnel import records
from windtunnel.config import Settings
from windtunnel.sweep import memory
from windtunnel.sweep.folder import fixed_part
from windtunnel.sweep.memory import exhausted, in_parts
from windtunnel.sweep.packs import Program, split
from windtunnel.sweep.point import Point
from windtunnel.sweep.run import run


@dataclass
class Study:
    study: int


class FakeProgram:
    """Of n studies, which need 10 + 5 n bytes."""

    sizes: list[int]

    def __init__(self, studies):
        self.size = len(studies)
        self.sizes.append(self.size)

    def filled(self, studies):
        assert len(studies) <= self.size
        return self

    def memory(self, stage):
        return 10 + 5 * self.size


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(memory, "program_of", FakeProgram)
    monkeypatch.setattr(FakeProgram, "sizes", [], raising=False)
    return lambda there: monkeypatch.setattr(memory, "available", lambda: there)


def parts_of(count, work=lambda part: None):
    """The parts that went well, those that failed, and what was said."""
    done, failed, lines = [], [], []

    def tried(part, program, cut):
        assert len(part) <= program.size
        work(part)
        done.append([point.study for point in part])

    points = [Study(n) for n in range(count)]
    in_parts(points, "advance", {}, tried, lambda point, why: failed.append((point.study, why)), lines.append)
    return done, failed, lines


def test_parts_are_few_and_equal():
    assert split(list(range(10)), 4) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert split(list(range(4)), 4) == [[0, 1, 2, 3]]
    assert [len(part) for part in split(list(range(9)), 2)] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("there", "sizes", "compiled"),
    [
        (60, [10], [10]),  # 10 + 50 bytes
        (59, [5, 5], [10, 9]),  # at most 9
        (35, [5, 5], [10, 5]),
        (20, [2] * 5, [10, 3, 2]),
        (1, [1] * 10, [10, 1]),  # not even one: there is no telling before it has been tried
    ],
)
def test_a_pack_is_sized_beforehand_with_few_compilations(fakes, there, sizes, compiled):
    fakes(there)
    done, failed, lines = parts_of(10)
    assert [len(part) for part in done] == sizes and [n for part in done for n in part] == list(range(10))
    assert not failed
    assert FakeProgram.sizes == compiled
    assert len(lines) == (len(sizes) > 1) and (not lines or f"in {len(sizes)} parts" in lines[0])


def test_where_memory_runs_out_all_the_same_a_pack_is_cut_in_two(fakes):
    fakes(1000)

    def work(part):
        if len(part) > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    done, failed, lines = parts_of(10, work)
    assert done == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]] and not failed
    assert FakeProgram.sizes == [10, 5, 3], "parts share a program"
    assert lines[-1] == "out of memory with 5 studies at once; tried again with 3"


def test_a_single_study_that_does_not_fit_fails_alone(fakes):
    fakes(1000)

    def work(part):
        if 1 in [point.study for point in part]:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    done, failed, _ = parts_of(3, work)
    assert done == [[0], [2]]
    assert failed == [(1, "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")]


def test_other_errors_are_not_taken_for_it(fakes):
    fakes(1000)

    def work(part):
        raise jax.errors.JaxRuntimeError("INTERNAL: no")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        parts_of(3, work)


def test_jax_says_it_as_we_expect():
    with pytest.raises(jax.errors.JaxRuntimeError) as raised:
        jnp.zeros(2**46).block_until_ready()
    assert exhausted(raised.value)


def test_amounts_are_read_at_a_glance():
    texts = [memory.amount(count) for count in (0, 999, 1_000, 24_960, 999_600, 9_960_000, 19.4e9, 2e12)]
    assert texts == ["0 B", "999 B", "1 kB", "25 kB", "1 MB", "10 MB", "19 GB", "2 TB"]


def test_what_there_is_is_a_plausible_number_of_bytes():
    assert 1e7 < memory.available() < 1e13
    assert memory.available() <= memory.machine() / jax.local_device_count()


@pytest.mark.slow
def test_a_pack_that_is_cut_is_trained_all_the_same_and_the_record_says_so(tmp_path, monkeypatch):
    """Sized to two parts of two; and in the first of these memory runs out, so that it is tried one by one."""
    points = [Point(tiny(f"seed={seed}"), {"seed": str(seed)}) for seed in range(3)]
    need = Program.memory
    monkeypatch.setattr(
        Program, "memory", lambda self, stage: need(self, stage) if self.size < 3 else int(1.2 * memory.available())
    )
    advance, calls = Program.advance, []

    def once(self, state, steps):
        calls.append(self.size)
        if len(calls) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return advance(self, state, steps)

    monkeypatch.setattr(Program, "advance", once)
    root = tmp_path / "trial"
    assert run(points, root, Settings(), fixed_part([point.study for point in points]))
    for point in points:
        record = records.read_json(root / point.id / "study.json")
        assert record["pack"]["studies"] == 1
        assert record["pack"]["cut"] == "out of memory with 2 studies at once; tried again with 1"
    assert sorted(len(note["studies"]) for note in records.notes(root)) == [1, 1, 1]
    lengths = [len((root / point.id / "train.jsonl").read_text().splitlines()) for point in points]
    assert lengths == [4, 4, 4] and sum(size == 1 for size in calls) >= 3

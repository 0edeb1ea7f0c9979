"""What was compiled is found again, as it was; what is damaged or not meant is compiled."""

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windtunnel import cache, canary, home, spec
from windtunnel.compiled import Compiled


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder in which everything is kept, whatever it took; the function that opens it as another process would."""
    monkeypatch.setattr(cache, "WORTH", 0.0)
    monkeypatch.setattr(cache, "key", cache.key.__wrapped__)  # tests/conftest.py replaces it
    monkeypatch.setattr(cache.Kept, "pruned", True)
    monkeypatch.setattr(spec, "sources", {})  # plug-ins of tests that came before
    show = warnings.showwarning

    def again(setting=str(tmp_path / "programs")):
        jax.clear_caches()
        cache.keep_compiled(setting)
        return cache.Kept.folder

    again()
    yield again
    cache.keep_compiled()
    warnings.showwarning = show


def doubled(x):
    doubled.traced += 1
    return {"twice": jnp.sin(x) * 2}


def ask(x, name="doubled", function=doubled, **options):
    """(what the program says, how often it was traced, whether it was found), asked as another process would."""
    doubled.traced = 0
    jax.clear_caches()
    compiled = Compiled()
    program = compiled.get(name, jax.jit(function, **options), x)
    return program, doubled.traced, bool(compiled.take().found)


X = np.linspace(0, 1, 8, dtype=np.float32)


def test_what_was_compiled_is_not_even_traced_and_says_the_same(kept):
    x = jax.device_put(X)
    first, traced, found = ask(x, donate_argnums=0)
    assert (traced, found) == (1, False)
    again, traced, found = ask(x, donate_argnums=0)
    assert (traced, found) == (0, True)
    assert again.memory_analysis().argument_size_in_bytes == first.memory_analysis().argument_size_in_bytes == X.nbytes
    assert again.memory_analysis().alias_size_in_bytes == first.memory_analysis().alias_size_in_bytes > 0
    said = [np.asarray(program(jax.device_put(X))["twice"]) for program in (first, again)]
    assert said[0].tobytes() == said[1].tobytes()
    again(x)
    assert x.is_deleted(), "it was given away"


def test_anything_that_tracing_may_read_asks_for_another_program(kept, monkeypatch):
    assert not ask(X)[2] and ask(X)[2]
    assert ask(X[:4])[1], "shape"
    assert ask(X.astype(np.int32))[1], "type"
    assert ask(X, name="other")[1], "name"
    assert not ask(X, function=lambda x: x + 1)[2], "function"
    with jax.default_matmul_precision("bfloat16"):
        assert ask(X)[1], "settings of JAX"
    monkeypatch.setattr(cache, "source", lambda: "edited")
    assert ask(X)[1:] == (1, True), "with another text it is traced; what JAX lowered it to was the same"
    assert ask(X)[1:] == (1, True), "and what JAX had kept is not serialised once more"
    monkeypatch.undo()
    monkeypatch.setitem(spec.sources, "plugin", "text")
    assert ask(X)[1] == 1, "a plug-in may import anything"


def test_other_machines_and_versions_have_a_folder_of_their_own(kept, monkeypatch):
    here = kept()
    for change in ({"device": ["other"]}, {"jaxlib": "0.0.1"}, {"flags": "--xla_cpu_max_isa=SSE4_2"}):
        real = canary.identity()
        monkeypatch.setattr(canary, "identity", lambda real=real, change=change: real | change)
        assert kept() != here
        monkeypatch.undo()


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"", lambda whole: b"?" + whole[1:]])
def test_what_is_damaged_is_compiled_again_and_kept_anew(kept, damage, recwarn):
    ask(X)
    folder = kept()
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) == 2, "ours and JAX's"
    for path, content in whole.items():
        path.write_bytes(damage(content))
    program, traced, found = ask(X)
    np.testing.assert_allclose(program(X)["twice"], np.sin(X) * 2, rtol=1e-6)
    assert (traced, found) == (1, False)
    assert {*folder.iterdir()} == {*whole}
    assert all(path.read_bytes() != damage(content) for path, content in whole.items())
    assert ask(X)[1:] == (0, True)
    assert not recwarn.list, "nobody has to read of it"


def test_a_folder_that_cannot_be_is_not_used(kept, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert kept(str(tmp_path / "file" / "programs")) is None and not ask(X)[2] and not ask(X)[2]
    assert kept(None) is None and not ask(X)[2]
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert kept(cache.DEFAULT).is_relative_to(tmp_path / ".cache/windtunnel/programs")

    def homeless():
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    assert kept(cache.DEFAULT) is None and not ask(X)[2] and not ask(X)[2]
    jax.config.update("jax_enable_compilation_cache", False)
    assert kept() is None, "JAX's own switch"


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(100))
        os.utime(tmp_path / name / "file", (10_000 - age, 10_000 - age))
    cache.prune(tmp_path, 250)
    assert sorted(path.parent.name for path in tmp_path.rglob("file")) == ["new", "old"]


def test_a_reader_never_sees_half_of_a_file(tmp_path):
    whole = [bytes([number]) * 3_000_000 for number in range(2)]
    writers = [threading.Thread(target=lambda c=c: [home.keep(tmp_path / "file", c) for _ in range(20)]) for c in whole]
    home.keep(tmp_path / "file", whole[0])
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert (tmp_path / "file").read_bytes() in whole
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


LAPACK = """
import sys
import jax, jax.numpy as jnp, numpy as np
from windtunnel import cache
from windtunnel.compiled import Compiled

cache.WORTH = 0.0
cache.keep_compiled(sys.argv[1])
compiled = Compiled()
program = compiled.get("singular values", jax.jit(lambda x: jnp.linalg.svd(x)[1]), np.eye(3, dtype=np.float32))
print(int(compiled.take().found), program(np.eye(3, dtype=np.float32)).sum())
"""


def test_another_process_finds_what_calls_lapack(tmp_path):
    """JAX loads LAPACK when it lowers: a process that lowers nothing once died of it, without a word."""
    for found in (0, 1):
        words = [sys.executable, "-c", LAPACK, str(tmp_path / "programs")]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{found} 3.0\n"), done.stderr

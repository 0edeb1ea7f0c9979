"""Claims: exclusive between processes, and gone with the process that held them."""

import json
import subprocess
import sys

import pytest

from windtunnel import records
from windtunnel.records.claims import Claims, held, locked

HOLD = """
import sys, time
from pathlib import Path
from windtunnel.records.claims import Claims
print(sorted(Claims(Path(sys.argv[1])).take(sys.argv[2:])), flush=True)
time.sleep(60)
"""
COUNT = """
import sys
from pathlib import Path
from windtunnel import records
from windtunnel.records.claims import locked
root = Path(sys.argv[1])
for _ in range(100):
    with locked(root):
        records.write_json(root / "n.json", {"n": records.read_json(root / "n.json")["n"] + 1})
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has claimed a and b."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, "a", "b"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "['a', 'b']\n"
    yield process
    process.kill()
    process.wait()


def test_what_another_process_has_claimed_is_left_to_it_until_it_dies(tmp_path, holder):
    claims = Claims(tmp_path)
    assert claims.take(["a", "b", "c"]) == {"c"}
    assert held(tmp_path, ["a", "b", "c", "d"]) == {"a", "b", "c"}
    holder.kill()  # SIGKILL: it had no chance to give anything back
    holder.wait()
    assert held(tmp_path, ["a", "b"]) == set()
    assert claims.take(["a", "b"]) == {"a", "b"}
    claims.drop(["a", "c"])
    assert held(tmp_path, ["a", "b", "c"]) == {"b"}
    claims.close()
    assert held(tmp_path, ["b"]) == set()


def test_to_look_is_not_to_claim(tmp_path):
    assert held(tmp_path / "nowhere", ["a"]) == set()
    claims, other = Claims(tmp_path), Claims(tmp_path)
    claims.take(["a"])
    assert held(tmp_path, ["a", "b"]) == {"a"}
    assert claims.take(["a"]) == {"a"}, "its own it keeps, though somebody has looked and closed the file"
    assert other.take(["a", "b"]) == {"b"}


def test_what_is_shared_is_changed_by_one_at_a_time(tmp_path):
    records.write_json(tmp_path / "n.json", {"n": 0})
    counters = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(3)]
    assert [counter.wait(60) for counter in counters] == [0, 0, 0]
    assert json.loads((tmp_path / "n.json").read_text()) == {"n": 300}


def test_a_claim_and_the_books_do_not_meet(tmp_path):
    claims = Claims(tmp_path)
    claims.take(["a"])
    with locked(tmp_path):
        assert held(tmp_path, ["a", "b"]) == {"a"}


def test_of_those_that_ask_at_once_one_gets_all(tmp_path):
    """A pack that two processes had each a part of would be two other packs."""
    ids = [f"study-{n}" for n in range(3000)]
    wait = "import os\nprint(flush=True)\nwhile not os.path.exists(sys.argv[1] + '/go'): pass\n"
    code = HOLD.replace("print(sorted", wait + "print(sorted")
    asking = [subprocess.Popen([sys.executable, "-c", code, tmp_path, *ids], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.stdout.readline() for process in asking] == [b"\n", b"\n"]
    (tmp_path / "go").touch()
    got = sorted(process.stdout.readline().count(b"study-") for process in asking)
    for process in asking:
        process.kill()
        process.wait()
    assert got == [0, 3000]

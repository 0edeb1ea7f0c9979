"""One table in five formats: what people read is what programs read."""

import csv
import io
import subprocess
import sys

import polars
import pytest

from tests.commanded import windtunnel
from tests.report.made import kl, sweep
from windtunnel.records.groups import gather, swept_keys
from windtunnel.report.formats import comma_separated, latex, markdown, parquet, rich
from windtunnel.report.grid import grid


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    results = {"rope_x": [*kl(0.1, 0.11, 0.12), {"error": "not finite"}], "bam": [*kl(0.001, 0.0011, 0.0012), None]}
    return sweep(tmp_path_factory.mktemp("runs") / "trial", results)


@pytest.fixture(scope="module")
def small_grid(root):
    return grid(str(root), gather([root]), swept_keys(root))


def test_markdown_has_the_best_in_bold_and_what_is_missing(small_grid):
    lines = markdown(small_grid).splitlines()
    assert lines[0].startswith("| position | seeds | KL in range | KL past |")
    assert lines[2].startswith("| rope_x | 3 of 4 | 0.11 [0.087, 0.14] | 1.1 [0.87, 1.4] |")
    assert lines[3].startswith("| bam | 3 of 4 | **1.1e-3 [") and lines[3].endswith("| 3 extrapolates, 1 waiting |")
    assert "of 8 studies 1 failed, 1 waiting" in small_grid.notes


def test_latex_is_escaped(small_grid):
    text = latex(small_grid)
    assert r"rope\_x & 3 of 4" in text and r"\textbf{1.1e-3 [" in text and text.count(r"\\") == 3
    columns = text.splitlines()[0].split("{")[-1].rstrip("}")
    assert all(line.count(" & ") == len(columns) - 1 for line in text.splitlines() if line.endswith(r"\\"))


def test_csv_and_parquet_hold_the_same_numbers(small_grid):
    rows = list(csv.DictReader(io.StringIO(comma_separated(small_grid))))
    table = polars.read_parquet(io.BytesIO(parquet(small_grid)))
    assert [row["position"] for row in rows] == table["position"].to_list() == ["rope_x", "bam"]
    assert table["failed"].to_list() == [1, 0] and table["waiting"].to_list() == [0, 1]
    for name in ("kl_bits", "kl_bits_low", "kl_bits_high"):
        assert [float(row[name]) for row in rows] == pytest.approx(table[name].to_list(), rel=1e-5)
    assert table["kl_bits_best"].to_list() == [False, True] and "headroom_bits_past_best" not in table.columns
    assert float(rows[1]["kl_bits"]) == pytest.approx((0.001 * 0.0011 * 0.0012) ** (1 / 3), rel=1e-5)


def test_a_narrow_terminal_has_fewer_columns_and_says_the_same(small_grid):
    wide, narrow = rich(small_grid, 200), rich(small_grid, 80)
    assert len(wide.columns) > len(narrow.columns)
    assert "\n[" in str(next(iter(narrow.columns[1].cells)))


def test_the_command(tmp_path, root):
    code, out, err = windtunnel(tmp_path, "table", str(root), "--by", "position", "--metric", "kl_bits_past,reach")
    assert code == 0, err
    assert "kl_bits_past" in out and "rope_x" in out
    code, out, _ = windtunnel(tmp_path, "table", str(root), "--format", "md", "--compare", "bam,rope_x")
    assert code == 0 and out.startswith("| position |") and out.count("\n") == 4
    code, out, _ = windtunnel(tmp_path, "table", str(root), str(root.parent / "trial"), "--format", "csv")
    assert code == 0 and "sweep" in out.splitlines()[0]
    for wrong, message in (
        ("--metric=kl_bit", "--metric=kl_bit: no such name; did you mean kl_bits?"),
        ("--by=tunel", "--by=tunel: no such name; did you mean tunnel?"),
        ("--compare=bam", "--compare=bam: should be two groups"),
        ("--compare=bam,alibi", "--compare=bam,alibi: alibi: no such group; valid: rope_x, bam"),
        ("--format=xls", "invalid choice: 'xls'"),
    ):
        code, out, err = windtunnel(tmp_path, "table", str(root), wrong)
        assert code == 2 and message in err and err.count("\n") == 1, err


def test_a_table_needs_no_jax_and_no_scipy(root):
    code = (
        "import sys; from windtunnel.cli import main; sys.argv = ['windtunnel', *sys.argv[1:]]; main()\n"
        "assert not {'jax', 'hydra', 'flax', 'scipy', 'matplotlib', 'polars'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code, "table", str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

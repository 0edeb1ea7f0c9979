"""A tunnel from outside the package: the one of docs/adding-a-tunnel.md, brought in every way that is promised."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.documented import HERE, write
from tests.foreign import forgotten
from windtunnel import config, door, plugins, spec
from windtunnel.errors import BadInput
from windtunnel.spec import Family, plain
from windtunnel.tunnels import TUNNELS, Markov, Recall, Tunnel, Urn
from windtunnel.verify.brute import judges
from windtunnel.verify.checks import checks

PAGE = HERE / "docs" / "adding-a-tunnel.md"
STUDY = {"tunnel": {"name": "coin", "noise": 0.2}, "model": {"name": "transformer"}, "position": {"name": "alibi"},
         "train": {"horizon": 4}}  # fmt: skip


@pytest.fixture
def coin(tmp_path, monkeypatch):
    """coin.py in the working folder; afterwards everything is as it was."""
    write(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield tmp_path / "coin.py"


def test_it_comes_through_the_door_and_is_a_pytree_like_the_others(coin):
    with pytest.raises(BadInput, match=r"tunnel\.name=coin|tunnel=coin: no such name"):
        door.study(STUDY)
    study = door.study(STUDY, ["coin.py"])
    assert study.tunnel.name == "coin" and plugins.sources(study) == [str(coin)]
    other = door.study({**STUDY, "tunnel": {"name": "coin", "noise": 0.3}}, [str(coin)])
    assert jax.tree.structure(study) == jax.tree.structure(other), "noise is a knob"
    assert door.study(plain(study)) == study
    assert plugins.sources(Recall()) == []
    with pytest.raises(BadInput, match=r"tunnel\.noise=0\.7: should be less than or equal to 0\.5"):
        door.study({**STUDY, "tunnel": {"name": "coin", "noise": 0.7}})
    with pytest.raises(BadInput, match=r"tunnel\.nose: no such name; did you mean noise\?"):
        door.study({**STUDY, "tunnel": {"name": "coin", "nose": 0.7}})


def test_its_judge_finds_it_sound_and_finds_a_mistake_in_it(coin):
    plugins.load(["coin.py"])
    tunnel, observations = judges()["coin"].small(np.random.default_rng(0))
    assert all(check.passed for check in checks(tunnel, observations))
    text = coin.read_text()
    broken = text.replace("back_PT > 0", "back_PT >= 0").replace('"coin"', '"broken"')
    assert broken != text
    (coin.parent / "broken.py").write_text(broken)
    plugins.load(["broken.py"])
    tunnel, observations = judges()["broken"].small(np.random.default_rng(0))
    failed = {check.name for check in checks(tunnel, observations) if not check.passed}
    assert "predictive equals enumeration" in failed


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nowhere.py", None, r"plugins=nowhere\.py: no such file \(looked for /.*nowhere\.py\)"),
        ("no_such_module", None, r"plugins=no_such_module: cannot be imported \(ModuleNotFoundError: No module named"),
        ("wrong.py", "import numpy as np\n1 / 0", r"plugins=wrong\.py: cannot be imported \(ZeroDivisionError: "),
        (
            "empty.py",
            "from windtunnel.tunnels import Recall",
            r"plugins=empty\.py: defines no @spec subclass of Tunnel, ",
        ),
        ("again.py", None, r"plugins=again\.py: Coin: a tunnel named recall exists already; give it one of its own"),
    ],
)
def test_what_is_no_plugin_is_answered_in_one_line(coin, name, content, said):
    if content is not None:
        (coin.parent / name).write_text(content)
    if name == "again.py":
        (coin.parent / name).write_text(coin.read_text().replace('"coin"', '"recall"'))
    before = list(TUNNELS.members)
    with pytest.raises(BadInput, match=said) as found:
        plugins.load([name])
    assert "\n" not in str(found.value) and TUNNELS.members == before


@pytest.mark.parametrize("group", ["windtunnel.plugins", "windtunnel.tunnels"])  # the second is the older name
def test_what_is_installed_needs_no_naming(coin, group):
    """A distribution with an entry point, as pip would leave it; `verify` and the door know its tunnel."""
    site = coin.parent / "site"
    (site / "windtunnel_coin-1.dist-info").mkdir(parents=True)
    (site / "windtunnel_coin.py").write_text(coin.read_text())
    (site / "windtunnel_coin-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: windtunnel-coin\nVersion: 1\n"
    )
    declared = PAGE.read_text()
    assert '[project.entry-points."windtunnel.plugins"]\ncoin = "windtunnel_coin"' in declared
    (site / "windtunnel_coin-1.dist-info/entry_points.txt").write_text(f"[{group}]\ncoin = windtunnel_coin\n")
    code = (
        f"from windtunnel import door\nstudy = door.study({STUDY})\nprint(study.tunnel)\n"
        "from windtunnel.verify.brute import judges\nprint(sorted(judges()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Coin(" in done.stdout and "'coin'" in done.stdout


def test_the_source_of_a_plug_in_is_part_of_a_study(coin):
    """A tunnel that was changed is another tunnel."""
    door.study(STUDY, ["coin.py"])
    name = config.study_id(door.study(STUDY, ["coin.py"]))
    module = plugins.loaded[str(coin)].__name__
    spec.sources[module] = spec.digest(coin.read_text() + "# changed")
    assert config.study_id(door.study(STUDY, ["coin.py"])) != name


def test_a_family_is_open():
    family = Family(Tunnel, Recall)
    larger = family.and_also(Urn)
    family.own.append(Markov)
    assert larger.members == [Recall, Markov, Urn] and family.members == [Recall, Markov]

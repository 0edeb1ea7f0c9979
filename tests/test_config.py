"""The door, and the study as a pytree: knobs are leaves, sizes are structure."""

import jax
import pytest
import yaml

from tests import composed
from windtunnel import config, door, models, presets, priors, tunnels
from windtunnel.errors import BadInput
from windtunnel.models import position
from windtunnel.spec import Real, arrays, identity, members, names, plain, spec, stack

DEFAULT = composed.plain()


def changed(key: str, value: object) -> dict:
    """The default configuration with one key (dotted) set."""
    plain = composed.plain()
    at = plain
    *parents, last = key.split(".")
    for part in parents:
        at = at[part]
    at[last] = value
    return plain


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tunnel.noise", 0.7, "tunnel.noise=0.7: should be less than or equal to 0.5"),
        ("tunnel.noise", float("nan"), "tunnel.noise=nan: should be"),
        ("tunnel.noise", "loud", "tunnel.noise=loud: should be a valid number"),
        ("tunnel.nosie", 0.1, "tunnel.nosie: no such name; did you mean noise?"),
        ("tunnel.name", "recal", "tunnel=recal: no such name; did you mean recall?"),
        ("tunnel.prior", {"name": "cauchy"}, "tunnel.prior=cauchy: no such name; valid: uniform, gaussian"),
        ("tunnel.prior.beta", 0, "tunnel.prior.beta=0: should be greater than 0"),
        ("position", {"scale": 3}, "position: has no name; valid: uniform, alibi"),
        ("position.name", "ropes", "position=ropes: no such name; did you mean rope?"),
        ("position", None, "position=null: model transformer needs one; valid: uniform, alibi"),
        ("position", {"name": "per_layer", "layers": [{"name": "alibi"}] * 2}, "lists 2 positions, and the model has"),
        ("position", {"name": "per_layer", "layers": [{"name": "alibo"}]}, "alibo: no such name; did you mean alibi?"),
        ("model.heads", 3, "model.heads=3: must divide model.width=64"),
        ("model.softmax", "sharp", "model.softmax=sharp: should be 'plain', 'scalable_outside' or 'scalable_inside'"),
        ("model.inference", {"name": "sparse", "mass": 0.0}, "model.inference.mass=0.0: should be greater than 0"),
        ("model.inference", {"name": "lazy"}, "model.inference=lazy: no such name; valid: exact, sparse, variational"),
        (
            "model.inference",
            {"name": "variational"},
            "model.inference=variational: the prior of position generalized_g",
        ),
        ("model.layers", 0, "model.layers=0: should be greater than or equal to 1"),
        ("train.horizon", None, "train.horizon=null: recall has no longest sequence"),
        ("train.supervision", "both", "train.supervision=both: should be 'posterior' or 'sample'"),
        ("train.steps", 1.5, "train.steps=1.5: should be a valid integer"),
        ("evaluate.reach", 1e9, "evaluate.reach=1e+09: sequences of 64,000,000,000 observations cannot be numbered"),
        ("seed", -1, "seed=-1: should be greater than or equal to 0"),
        ("runs", 3, "runs=3: should be a valid string"),
        ("speed", 3, "speed: no such name; did you mean seed?"),
    ],
)
def test_bad_input_is_one_line_with_key_value_and_what_is_valid(key, value, message):
    with pytest.raises(BadInput) as error:
        door.configuration(changed(key, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tunnel_that_ends_bounds_horizon_and_reach():
    with pytest.raises(BadInput, match=r"train\.horizon=21: bijection holds at most 20 observations"):
        composed.study("tunnel=bijection", "train.horizon=21")
    with pytest.raises(BadInput, match=r"a reach of 2 at horizon 10"):
        composed.study("tunnel=bijection", "train.horizon=10", "evaluate.reach=3")
    assert composed.study("tunnel=bijection").horizon == 20


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tunnel.hypotheses=1000"], "tunnel.hypotheses=1000: recall has no such size; the nearest: 512 and 1024"),
        (["tunnel.hypotheses=1000000000"], "no such size; the nearest: 16777216"),
        (["tunnel.hypotheses=many"], "tunnel.hypotheses=many: should be a whole number; valid: 2, 4, 8, …, 1.68e+07"),
        (["tunnel=bijection", "tunnel.hypotheses=40000"], "no such size; the nearest: 5040 and 40320"),
        (["tunnel.hypotheses=1024", "tunnel.bits=10"], "tunnel.bits=10 sets it already; give one of the two"),
    ],
)
def test_the_number_of_hypotheses_is_a_way_to_set_the_size(overrides, message):
    with pytest.raises(BadInput) as error:
        composed.study(*overrides)
    assert message in str(error.value)


def test_the_number_of_hypotheses_stands_for_the_size():
    assert composed.study("tunnel.hypotheses=1024") == composed.study("tunnel.bits=10")
    assert composed.study("tunnel=bijection", "tunnel.hypotheses=40320").tunnel.symbols == 8
    assert composed.study().tunnel.hypotheses == 4096, "null is the tunnel's own default"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tunnel=hmm_tokens", "tunnel.mixing=0.5"], "tunnel.mixing: parameters=tokens has none"),
        (["tunnel=hmm_tokens", "tunnel.states=21"], "hold at most 20 states"),
        (["tunnel=hmm", "tunnel.preset=mess3"], "tunnel.preset=mess3: needs states=3"),
        (["tunnel=mess3", "tunnel.mixing=0.5"], "tunnel.mixing: preset=mess3 has its own"),
        (["tunnel=recurrence", "tunnel.modulus=15"], "tunnel.modulus=15: should be a prime number"),
        (["tunnel=recurrence", "tunnel.hypotheses=300"], "the nearest: 290 and 362"),
        (["tunnel=mixture", "tunnel.domains=[{name: urn}]"], "tunnel.domains"),
        (["tunnel=mixture", "tunnel.domains=[{name: urn},{name: recall}]"], "tunnel.domains.1=recall: no such name"),
        (
            ["tunnel=mixture", "tunnel.domains=[{name: urn},{name: hmm}]"],
            "domains.1: hmm takes part with parameters=fixed",
        ),
        (["tunnel=mixture", "tunnel.domains=[{name: urn},{name: urn,nois: 0}]"], "domains.1.nois: no such name"),
        (["tunnel=permutation", "tunnel.symbols=11"], "tunnel.symbols=11: should be less than or equal to 10"),
        (["evaluate.hops=8"], "evaluate.hops=8: questions of recall ask for no hops (valid with tunnel=hops)"),
        (["tunnel=hops", "evaluate.hops=65"], "evaluate.hops=65: should be less than or equal to 64"),
        (["tunnel=urn", "tunnel.hypotheses=2000000"], "less than or equal to 1000000"),
    ],
)
def test_every_tunnel_says_what_it_cannot_do(overrides, message):
    with pytest.raises(BadInput) as error:
        composed.study(*overrides)
    assert message in str(error.value)


def test_rope_needs_an_even_head_width():
    with pytest.raises(BadInput, match="even head width"):
        composed.study("position=rope", "model.width=6", "model.heads=2")


@pytest.mark.parametrize(
    "override",
    "tunnel.noise=0.2 tunnel.prior.scale=3 tunnel.prior.beta=2 position.scale=3 position.beta=2 "
    "train.learning_rate=0.1 train.weight_decay=0.1 train.clip=2 seed=5".split(),
)
def test_knobs_do_not_change_the_structure(override):
    default, other = composed.study(), composed.study(override)
    assert jax.tree.structure(default) == jax.tree.structure(other)
    assert jax.tree.leaves(default) != jax.tree.leaves(other)


@pytest.mark.parametrize(
    "override",
    "tunnel.bits=11 prior=uniform position=alibi position.learn=false model.layers=2 train.batch=8 train.horizon=32 "
    "train.supervision=sample evaluate.reach=2".split(),
)
def test_sizes_do(override):
    assert jax.tree.structure(composed.study()) != jax.tree.structure(composed.study(override))


def test_a_nested_spec_is_a_child():
    @spec
    class Inner:
        knob: Real = 1.0

    @spec
    class Outer:
        inner: Inner | None = Inner()
        several: tuple[Inner, ...] = (Inner(), Inner(knob=2.0))
        size: int = 3

    assert jax.tree.leaves(Outer()) == [1.0, 1.0, 2.0]
    assert Outer(size=4) != Outer()
    assert jax.tree.structure(Outer(size=4)) != jax.tree.structure(Outer())


def test_numbers_become_arrays_of_one_type():
    first, second = composed.study("tunnel.noise=0"), composed.study("seed=3")  # Hydra reads 0 as a whole number
    pack = stack([first, second])
    assert pack.tunnel.noise.dtype == "float32" and pack.seed.dtype == "int32"
    assert pack.tunnel.noise.shape == pack.seed.shape == (2,)
    assert arrays(first).seed.shape == ()


def test_the_name_of_a_study_hashes_what_shapes_its_parameters():
    name = config.study_id(composed.study())
    assert name == config.study_id(composed.study("evaluate.reach=2", "evaluate.examples=3", "runs=elsewhere"))
    others = [composed.study(key) for key in ("tunnel.noise=0.2", "seed=1", "train.steps=999", "position=alibi")]
    assert len({name, *map(config.study_id, others)}) == 5
    assert config.evaluate_id(composed.study()) != config.evaluate_id(composed.study("evaluate.reach=2"))


def test_one_study_has_one_id():
    """However it is typed: null or the horizon it stands for, a seed of no pool; and a field that is added later,
    at its default, renames nothing.
    """
    bijection = config.study_id(composed.study("tunnel=bijection"))
    assert bijection == config.study_id(composed.study("tunnel=bijection", "train.horizon=20"))
    assert bijection == config.study_id(composed.study("tunnel=bijection", "tunnel.pool_seed=5"))
    pooled = [composed.study("tunnel=bijection", "tunnel.pool=7", f"tunnel.pool_seed={seed}") for seed in (0, 5)]
    assert len({bijection, *map(config.study_id, pooled)}) == 3

    @spec
    class Before:
        size: int = 3

    @spec
    class After:
        size: int = 3
        added: float = 0.5

    assert identity(Before(size=4)) == identity(After(size=4)) != identity(After(size=4, added=0.6))
    assert identity(Before()) == identity(After()) == {}


def test_a_length_is_the_nearest_whole_number():
    """100 × 1.15 is 114.99999999999999 in floating point: 114 observations were judged."""
    assert composed.study("train.horizon=100", "evaluate.reach=1.15").problem.length == 115


def test_plain_goes_back_through_the_door():
    for overrides in ([], ["tunnel=bijection"], ["position=rope", "prior=uniform"]):
        composed_study = composed.study(*overrides)
        assert door.study(plain(composed_study)) == composed_study


SPECS = {
    "position": position.AnyPosition,
    "prior": priors.Prior | priors.Grid,
    "tunnel": tunnels.AnyTunnel,
    "model": models.AnyModel,
    "train": config.Train,
    "inference": models.inference.AnyInference,
    "term": config.AnyTerm,
}
LISTS = {"per_layer", "per_head"}  # positions that are lists of others


@pytest.mark.parametrize("group", SPECS)
def test_every_choice_lists_the_fields_of_its_spec(group):
    """Hydra refuses keys that a file does not list; and what code and file call the default is the same."""
    specs = members(SPECS[group])
    by_name = {getattr(spec, "name", None): spec for spec in specs}
    for path in sorted((presets.folder() / group).glob("*.yaml")):
        assert presets.head(path), f"{path.name} does not say in its head what it is"
        listed = yaml.safe_load(path.read_text())
        if "@package _global_" in path.read_text():
            listed = listed.get(group, {})
        if "defaults" in listed or (group == "tunnel" and "name" not in listed) or listed.get("name") in LISTS:
            continue  # it adds to another file, or is a list
        member = by_name.get(listed.get("name"), specs[0])
        fields = plain(member())
        missing = set(fields) - set(listed) - {"prior", "layers" if group == "position" else ""}
        assert not missing, f"{path.name} does not list {missing}"
        if getattr(member, "size", None):  # null in the file: two keys can set it
            assert listed.pop(member.size) is None and listed.pop("hypotheses") is None
        if path.stem in ("default", listed.get("name")):
            listed.pop("domains", None)  # specs in turn
            assert {key: value for key, value in listed.items() if fields[key] != value} == {}, path.name


def test_every_member_of_a_union_has_a_file():
    for group in ("position", "prior", "tunnel", "model", "inference", "term"):
        missing = set(names(SPECS[group])) - set(presets.choices(group)) - LISTS
        assert not missing, f"conf/{group} lacks {missing}"


def test_no_prior_no_softmax_with_a_prior_inside():
    inside = "model.softmax=scalable_inside"
    with pytest.raises(BadInput, match=r"position=rope adds no prior to the score .* valid: plain, scalable_outside"):
        composed.study(inside, "position=rope")
    for fine in ([inside], ["model.softmax=scalable_outside", "position=rope"]):
        assert composed.study(*fine).model.softmax != "plain"

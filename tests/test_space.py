"""Search spaces: their text, their JSON, and what they draw."""

import optuna
import pytest
from pydantic import ValidationError

from gans.errors import ConfigError
from orchestrator.sweep.space import (
    Choice,
    Int,
    LogUniform,
    Space,
    Uniform,
    parse_distribution,
    parse_space,
    resolve_field,
)

FIELDS = ("gan.lr_ratio", "gan.lr_g", "gan.loss", "gan.norm", "gan.width", "data.width", "gan.r1", "gan.r2")

CONDITIONAL = Space(
    {
        # The conditional parameter stands first: the order of a space is not the order of drawing.
        "gan.r1": LogUniform(
            low=0.01, high=1, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}, otherwise=0.0
        ),
        "gan.gp": Uniform(low=1, high=10, when={"gan.loss": ("wasserstein",)}),
        "gan.loss": Choice(options=("hinge", "relativistic", "wasserstein")),
    }
)


def draw(space: Space, num_trials: int) -> list[dict]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(num_trials)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("loguniform(0.1,10)", LogUniform(low=0.1, high=10)),
        ("loguniform(1e-5, 1e-2)", LogUniform(low=1e-5, high=1e-2)),
        ("uniform(-1,1)", Uniform(low=-1, high=1)),
        ("int(1,5)", Int(low=1, high=5)),
        ("int(8,128,log)", Int(low=8, high=128, log=True)),
        ("choice(hinge,relativistic)", Choice(options=("hinge", "relativistic"))),
        ("choice(2,1e-3,true,null,none)", Choice(options=(2, 1e-3, True, None, "none"))),
    ],
)
def test_text_is_read_and_written_back(text: str, value: LogUniform | Uniform | Int | Choice) -> None:
    assert parse_distribution("gan.x", text) == value
    assert parse_distribution("gan.x", str(value)) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("loguniform(0,10)", ["greater than 0", "loguniform(low,high)"]),
        ("uniform(3,1)", ["low 3 must be below high 1"]),
        ("uniform(1,2,3)", ["3 arguments given", "uniform(low,high)"]),
        ("uniform(a,2)", ["low", "valid number"]),
        ("uniform(0,1e999)", ["high", "finite"]),
        ("int(1.5,3)", ["low", "integer"]),
        ("int(0,8,log)", ["at least 1 on a log scale"]),
        ("choice()", ["options", "at least 1"]),
        ("choice(a,a)", ["name one value twice"]),
        (
            "logunifrom(0.1,10)",
            ["unknown distribution `logunifrom`", "did you mean `loguniform`?", "choice(a,b,…)"],
        ),
        ("loguniform(0.1,10", ["closing bracket", "loguniform(low,high)"]),
    ],
)
def test_a_mistake_names_field_value_and_what_is_allowed(text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_distribution("gan.lr_ratio", text)
    message = str(caught.value)
    assert f"`gan.lr_ratio={text}`" in message
    assert "allowed: " in message
    assert "\n" not in message
    assert [part for part in told if part not in message] == []


def test_a_short_name_is_the_one_field_that_ends_so() -> None:
    assert resolve_field("lr_ratio", FIELDS) == "gan.lr_ratio"
    assert resolve_field("data.width", FIELDS) == "data.width"
    with pytest.raises(ConfigError, match=r"`width` may mean `data.width`, `gan.width`"):
        resolve_field("width", FIELDS)
    with pytest.raises(
        ConfigError, match=r"unknown field `lr_rato`; did you mean `gan.lr_ratio`\? fields: .*gan.r2"
    ):
        resolve_field("lr_rato", FIELDS)
    with pytest.raises(ConfigError, match="unknown field `ratio`"):
        resolve_field("ratio", ("gan.lr_ratio",))


def test_plain_values_are_left_to_the_overrides() -> None:
    space, plain = parse_space(["lr_ratio=uniform(0,1)", "gan.norm=none", "name=a (b)"], FIELDS)
    assert space == Space({"gan.lr_ratio": Uniform(low=0, high=1)})
    assert plain == ["gan.norm=none", "name=a (b)"]


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space(["lr_ratio=unifrom(0,1)", "width=int(1,2)", "lr_g=int(1,2)", "gan.lr_g=int(1,3)"], FIELDS)
    assert [w in str(caught.value) for w in ("`uniform`", "`gan.width`", "given twice")] == [True, True, True]


def test_json_round_trips_with_every_type_kept() -> None:
    assert Space.model_validate_json(CONDITIONAL.model_dump_json()) == CONDITIONAL
    mixed = Choice(options=(2, 1.5, True, None, "2"))
    again = Space.model_validate_json(Space({"gan.k": mixed}).model_dump_json()).root["gan.k"]
    assert isinstance(again, Choice)
    assert [type(option) for option in again.options] == [int, float, bool, type(None), str]


def test_a_space_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(CONDITIONAL.root["gan.loss"], "options", ())  # noqa: B010 - mypy sees through the plain form
    with pytest.raises(ValidationError, match="lo"):
        Uniform.model_validate({"lo": 1, "high": 2})


def test_a_conditional_parameter_exists_only_where_its_condition_holds() -> None:
    trials = draw(CONDITIONAL, 40)
    assert {t["gan.loss"] for t in trials} == {"hinge", "relativistic", "wasserstein"}
    for trial in trials:
        assert ("gan.gp" in trial) == (trial["gan.loss"] == "wasserstein")
        assert (trial["gan.r1"] > 0) == (trial["gan.loss"] == "relativistic")
        assert trial["gan.r2"] == trial["gan.r1"]


def test_a_condition_on_a_skipped_parameter_does_not_hold() -> None:
    chain = Space(
        {
            "c": Int(low=1, high=2, when={"b": (1, 2)}),
            "b": Int(low=1, high=2, when={"a": ("on",)}),
            "a": Choice(options=("on", "off")),
        }
    )
    assert {tuple(sorted(trial)) for trial in draw(chain, 20)} == {("a",), ("a", "b", "c")}
    assert set(chain.fields) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("root", "told"),
    [
        (
            {"a": Int(low=1, high=2, when={"los": ("x",)}), "loss": Choice(options=("x",))},
            "did you mean `loss`",
        ),
        (
            {"a": Int(low=1, high=2, when={"loss": ("hing",)}), "loss": Choice(options=("hinge",))},
            "never hing .*hinge",
        ),
        (
            {"a": Int(low=1, high=2, when={"b": (1,)}), "b": Int(low=1, high=2, when={"a": (1,)})},
            "in a circle",
        ),
        (
            {"a": Int(low=1, high=2, sets=("b",)), "b": Int(low=1, high=2)},
            "`b` is set twice: by `a` and by `b`",
        ),
    ],
)
def test_an_inconsistent_space_is_refused(root: dict, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Space(root)

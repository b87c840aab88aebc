"""What may be asked of a sweep, and what is said where it may not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gans.errors import ConfigError
from orchestrator.sweep.plan import OBJECTIVES, Plan, parse_plan


def test_a_plan_without_a_budget_is_of_twelve_trials_and_one_with_another_budget_of_as_many_as_fit() -> None:
    assert Plan().trials == parse_plan({"trials": None, "hours": None}).trials == 12
    assert parse_plan({"hours": 2}).trials is None
    assert parse_plan({"device_hours": 2, "trials": 5}).trials == 5


def test_a_population_stops_nobody_unless_that_is_asked_for() -> None:
    assert Plan().stop == "asha"
    assert Plan(population=True).stop == "none"
    assert Plan(population=True, stop="median").stop == "median"


def test_a_plan_survives_json() -> None:
    plan = Plan(hours=1.5, objectives=("fid", "coverage"), seeds=3, pack=4, warm_start=("a",))
    assert parse_plan(json.loads(json.dumps(plan.model_dump(mode="json")))) == plan


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"trials": 0}, r"`trials` = 0: .*greater than or equal to 1"),
        ({"hours": -1}, r"`hours` = -1: .*greater than 0"),
        ({"objectives": ["fidd"]}, r"unknown objective `fidd`; did you mean `fid`\? objectives: fid, kid"),
        ({"objectives": []}, "`objectives`"),
        ({"objectives": ["fid", "fid"]}, "name one figure twice"),
        ({"stop": "ashaa"}, "`stop` = 'ashaa': .*'asha', 'median' or 'none'"),
        ({"pack": 0}, "pack is `auto` or at least 1"),
        ({"pack": "many"}, "`pack`"),
        ({"seeds": 0}, "`seeds` = 0"),
        ({"sampler": "tpee"}, r"unknown sampler `tpee`; did you mean `tpe`\?"),
        ({"sampler": "cmaes", "objectives": ["fid", "coverage"]}, "knows 1 objective, not 2"),
        ({"population": True, "seeds": 2}, "seeds above 1 with population"),
        ({"trails": 3}, r"unknown field `trails` of a plan; did you mean `trials`\? fields: trials, hours"),
        ({"trials": 0, "seeds": 0}, "`trials` = 0.*; `seeds` = 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        parse_plan(fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_of_one_objective_smaller_is_better_whatever_its_direction(name: str) -> None:
    plan = Plan(objectives=(name,))
    better, worse = (1.0, 2.0) if plan.directions == ["minimize"] else (2.0, 1.0)
    assert plan.scalarised([better]) < plan.scalarised([worse])
    assert plan.kept([better]) == better


def test_of_several_objectives_halving_one_is_worth_doubling_another() -> None:
    plan = Plan(objectives=("fid", "coverage", "kid"))
    assert plan.scalarised([8, 0.2, 0.5]) == pytest.approx(plan.scalarised([4, 0.1, 0.5]))
    assert plan.scalarised([8, 0.2, 0.5]) < plan.scalarised([8, 0.1, 0.5])
    assert math.isfinite(plan.scalarised([0.0, 0.0, -0.001]))
    with pytest.raises(ValueError, match="2 values for 3 objectives"):
        plan.scalarised([1.0, 2.0])


@pytest.mark.parametrize(
    "figures", [{}, {"fid": 1.0}, {"fid": math.nan, "coverage": 1.0}, {"fid": None, "coverage": 1}]
)
def test_figures_that_lack_an_objective_have_no_values(figures: dict[str, Any]) -> None:
    plan = Plan(objectives=("fid", "coverage"))
    assert plan.values(figures) is None
    assert plan.values({"coverage": 1, "fid": 2.5, "kid": 0.0}) == [2.5, 1.0]

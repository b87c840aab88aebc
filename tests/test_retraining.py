"""A retraining as a value: what may be asked, what is said where it may not, and that it stays what it was."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import ConfigError, NotFound
from orchestrator.experiment import parse as parse_experiment
from orchestrator.recipes import load as load_recipe
from orchestrator.retrain.cron import check_cron
from orchestrator.retrain.retraining import Retraining, from_yaml, load, parse

FACES: dict[str, Any] = {"name": "faces", "experiment": "vanilla.digits"}


def test_name_and_experiment_are_enough() -> None:
    retraining = parse(FACES)
    assert (retraining.start, retraining.overlap, retraining.on, retraining.remedies) == (
        "champion", "queue", "local", 1,
    )  # fmt: skip
    assert (retraining.triggers.cron, retraining.triggers.data, retraining.triggers.events) == (
        None,
        None,
        (),
    )


def test_it_survives_json_and_yaml() -> None:
    retraining = parse(
        FACES
        | {
            "triggers": {
                "cron": "0 3 * * mon-fri",
                "timezone": "Europe/Berlin",
                "data": {"at_least": 100},
                "events": [{"expect": "upload.done", "match": {"prefect.resource.id": ["a*", "b"]}}],
            },
            "budget": {"hours": 1.5, "rounds_a_day": 3},
            "gate": {"primary": "kid", "at_most": {"fid": 20}},
            "notify": ["slack-webhook/ops"],
            "on": "http://head:8265",
        }
    ).resolved()
    assert parse(json.loads(json.dumps(retraining.document()))) == retraining
    assert from_yaml(yaml.safe_dump(retraining.document())) == retraining


def test_resolved_it_holds_the_whole_experiment_with_overrides_and_data() -> None:
    given = parse(
        FACES
        | {
            "overrides": {"train.steps": 7, "data.size": 16, "data.channels": 1},
            "data": {"kind": "images", "path": "/data/faces"},
            "sweep": {"trials": 3},
            "experiment": "demo",
        }
    )
    resolved = given.resolved()
    experiment = resolved.trains()
    assert experiment == parse_experiment(resolved.experiment)  # type: ignore[arg-type]
    assert experiment.train.steps == 7
    assert experiment.data.model_dump()["path"] == "/data/faces"
    assert experiment.data.model_dump()["size"] == 16
    assert experiment.gan == load_recipe("demo").gan
    assert (resolved.overrides, resolved.data) == ({}, None)
    plan = resolved.plan()
    assert plan is not None
    assert (plan.trials, resolved.sweep) == (3, plan.model_dump(mode="json"))
    assert resolved.resolved() == resolved


def test_python_gives_values_where_yaml_gives_documents() -> None:
    from gans.data.digits import Digits
    from orchestrator.sweep.plan import Plan

    demo = load_recipe("demo")
    made = Retraining(name="d", experiment=demo, data=Digits(classes=(1, 2)), sweep=Plan(trials=2))  # type: ignore[arg-type]
    assert made.resolved().trains().data == Digits(classes=(1, 2))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "Faces"}, r"`name` = 'Faces': model name 'Faces': 1 to 63 of a-z"),
        ({"name": "20261122-014500-k3v9qa"}, "means a run"),
        ({"nmae": "x"}, r"unknown field `nmae`; did you mean `name`\? fields: name, experiment"),
        ({"start": "chmapion"}, "`start` = 'chmapion': .*'champion' or 'fresh'"),
        ({"overlap": "both"}, "`overlap` = 'both'"),
        ({"on": "remote"}, "`on` = 'remote': allowed are local, inline and http://HEAD:8265"),
        ({"remedies": -1}, "`remedies` = -1: .*greater than or equal to 0"),
        ({"budget": {"hours": 0}}, "`budget.hours` = 0: .*greater than 0"),
        ({"budget": {"hour": 1}}, r"unknown field `budget.hour`; did you mean `budget.hours`\?"),
        (
            {"triggers": {"data": {"atleast": 3}}},
            r"`triggers.data.atleast`; did you mean `triggers.data.at_least`\?",
        ),
        ({"triggers": {"data": {"at_least": 0}}}, "`triggers.data.at_least` = 0"),
        ({"triggers": {"events": [{"expects": "x"}]}}, r"did you mean `triggers.events.0.expect`\?"),
        (
            {"triggers": {"cron": "0 3 * *"}},
            "`triggers.cron` = '0 3 [*] [*]': a cron has five fields, minute, hour",
        ),
        ({"triggers": {"cron": "0 24 * * *"}}, "`triggers.cron` = .*for hour '24': [*], 0..23"),
        ({"triggers": {"data": {"every": "soon"}}}, "`triggers.data.every` = 'soon'"),
        (
            {"triggers": {"timezone": "Berlin"}},
            "`triggers.timezone` = 'Berlin': no such time zone; write UTC, Europe",
        ),
        ({"gate": {"primary": "fidd"}}, "`gate.primary` = 'fidd'"),
        ({"notify": ["ops"]}, "`notify` = .*: ops: a notification block is type/name, slack-webhook/ops"),
    ],
)
def test_a_retraining_that_cannot_be_is_refused_in_one_line(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        parse(FACES | fields)
    assert "field `" in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            {"name": "Faces", "budget": {"hours": -1}, "triggers": {"cron": "x", "timezone": "y"}, "strat": 1}
        )
    said = str(caught.value).splitlines()
    fields = ("name", "experiment", "budget.hours", "triggers.cron", "triggers.timezone", "strat")
    assert len(said) == len(fields)
    assert all(sum(f"field `{field}`" in line for line in said) == 1 for field in fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"experiment": "vanila.digits"},
            r"experiment: no recipe 'vanila.digits'; did you mean 'vanilla.digits'\?",
        ),
        (
            {"overrides": {"train.stesp": 3}},
            r"experiment: unknown field `train.stesp`; did you mean `train.steps`\?",
        ),
        (
            {"data": {"kind": "image"}},
            r"experiment: data.kind: unknown data kind 'image'; did you mean `images`\?",
        ),
        ({"sweep": {"trails": 3}}, "sweep: unknown field `trails` of a plan"),
        (
            {"sweep": {"trials": 3}, "overrides": {"search": {}}},
            "field `sweep`: the experiment has no search space",
        ),
    ],
)
def test_what_it_names_is_looked_at_when_it_is_resolved(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(FACES | fields).resolved()


def test_mistakes_of_experiment_and_plan_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(FACES | {"overrides": {"a.b": 1, "seed": -1}, "sweep": {"trials": 0}}).resolved()
    assert len(str(caught.value).splitlines()) == 3


def test_files_and_functions_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces.yaml").write_text("name: faces\nexperiment: vanilla.digits\n")
    Path("my_retrainings.py").write_text(
        "from orchestrator.retrain.retraining import Retraining\n"
        "def faces(): return Retraining(name='faces', experiment='vanilla.digits')\n"
        "def wrong(): return Retraining(name='Faces', experiment='vanilla.digits', on='moon')\n"
        "def other(): return 3\n"
    )
    assert load("faces.yaml") == load("my_retrainings:faces") == parse(FACES)
    with pytest.raises(ConfigError, match=r"(?s)`name` = 'Faces'.*`on` = 'moon'"):
        load("my_retrainings:wrong")
    with pytest.raises(ConfigError, match="returned int, not a Retraining"):
        load("my_retrainings:other")
    with pytest.raises(NotFound, match="cannot be imported"):
        load("my_retrainings:none")
    with pytest.raises(NotFound, match=r"no file 'none.yaml'"):
        load("none.yaml")
    with pytest.raises(ConfigError, match=r"give FILE.yaml"):
        load("faces")
    with pytest.raises(ConfigError, match="not valid YAML"):
        from_yaml("a: [")
    assert from_yaml("name: faces\nexperiment: vanilla.digits\non: inline").on == "inline"
    with pytest.raises(ConfigError, match="unknown field `2`"):
        from_yaml("name: faces\nexperiment: vanilla.digits\n2: x")
    with pytest.raises(ConfigError, match="a mapping of fields: name, experiment"):
        from_yaml("- 1")


CRONS = (
    *("* * * * *", "*/10 * * * *", "0 3 * * 1-5", "0 3 * * MON-fri", "0 3 1,15 jan,Jul *", "5-50/5 * * * *"),
    *(
        "01 * * * *",
        "0 3 * * 7",
        "0 22-2 * * *",
        "1,*/5 * * * *",
        "5/15 * * * *",
        "@daily",
        "@hourly",
        "@yearly",
    ),
)
NOT_CRONS = (
    *("", "@reboot", "60 * * * *", "0 24 * * *", "0 3 0 * *", "0 3 32 * *", "0 3 * 13 *", "0 3 * * 8", "0 3 * *"),
    *("*/0 * * * *", ",1 * * * *", "1, * * * *", "1--2 * * * *", "*-5 * * * *", "H * * * *", "+1 * * * *"),
    *("0 3 * * monday", "0 3 * mon *", "1-2-3 * * * *", "*/x * * * *", "1/ * * * *", "² * * * *"),
)  # fmt: skip


@pytest.mark.parametrize("text", CRONS)
def test_a_cron_of_ours_is_one_of_prefects(text: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    assert check_cron(text) == text
    CronSchedule(cron=text, timezone="Europe/Berlin")


@pytest.mark.parametrize("text", NOT_CRONS)
def test_what_is_no_cron_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a cron has five fields|allowed are for"):
        check_cron(text)


def test_the_value_and_its_settings_are_read_without_torch() -> None:
    import subprocess
    import sys

    program = (
        "import sys, orchestrator.retrain.rounds, orchestrator.retrain.history\n"
        "sys.exit(', '.join(m for m in ('torch', 'ray', 'prefect', 'optuna') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- the document


def blocks(language: str) -> list[str]:
    text = (Path(__file__).parents[1] / "docs" / "retraining.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_documents_example_is_complete_and_resolves() -> None:
    [text] = blocks("yaml")
    retraining = from_yaml(text)
    told = {
        "on" if field is True else field for field in yaml.safe_load(text)
    }  # a bare `on` is true in YAML 1.1
    assert told == set(Retraining.model_fields) - {"sweep"}  # which it names below
    assert set(yaml.safe_load(text)["triggers"]) == set(type(retraining.triggers).model_fields)
    experiment = retraining.resolved().trains()
    assert experiment.train.steps == 2000
    assert experiment.data.model_dump()["path"] == "s3://pictures/faces"
    [program] = [text for text in blocks("python") if "def faces" in text]
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["faces"]().resolved().trains().data.model_dump()["path"] == "s3://pictures/faces"

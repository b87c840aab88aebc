"""The command line in one place: a change of `ganctl`'s commands or options is a change of this table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from orchestrator.cli import app

COMMANDS = {
    "ganctl": "--version --traceback",
    "ganctl train": (
        "[recipe] [overrides] --on --workers --nodes --gpus-per-worker --cpus-per-worker --on-collapse --data "
        "--resume --tensorboard --mlflow --wandb --dry-run --store --json"
    ),
    "ganctl sweep": "--store --json",
    "ganctl sweep start": (
        "[recipe] [overrides] --trials --hours --device-hours --sampler --objective --stop --pbt --pack --seeds "
        "--warm-start --on-collapse --on --data --resume --tensorboard --mlflow --wandb --dry-run --store --json"
    ),
    "ganctl sweep resume": "sweep --trials --hours --device-hours --on --tensorboard --mlflow --wandb --store --json",
    "ganctl sweep ls": "--limit --store --json",
    "ganctl sweep show": "sweep --store --json",
    "ganctl sweep stop": "sweep --store --json",
    "ganctl demo": "--trials --steps --store --json",
    "ganctl serve": "recipe [overrides] --cron --timezone --flow --on --store",
    "ganctl recipes": "--json --store",
    "ganctl recipes list": "--json --store",
    "ganctl recipes show": "name --json --store",
    "ganctl families": "--json --store",
    "ganctl families list": "--json --store",
    "ganctl families show": "name --json --store",
    "ganctl runs": "--sweep --limit --store --json",
    "ganctl runs list": "--sweep --limit --store --json",
    "ganctl runs show": "run --store --json",
    "ganctl runs stop": "run --now --store --json",
    "ganctl runs compare": "runs --store --json",
    "ganctl logs": "run --tail|-n --follow|-f --store --json",
    "ganctl models": "--store --json",
    "ganctl models list": "--store --json",
    "ganctl models show": "name --store --json",
    "ganctl models verify": "[name] --digest --store --json",
    "ganctl retrain": "--store --json",
    "ganctl retrain apply": "file --dry-run --store --json",
    "ganctl retrain run": "name --force --here --store --json",
    "ganctl retrain pause": "name --store --json",
    "ganctl retrain resume": "name --store --json",
    "ganctl retrain delete": "name --store --json",
    "ganctl retrain list": "--store --json",
    "ganctl retrain show": "name --store --json",
    "ganctl retrain history": "name --store --json",
    "ganctl retrain promote": "name run --step --reason --store --json",
    "ganctl retrain rollback": "name --to --reason --store --json",
    "ganctl sample": "run --output|-o --num|-n --seed --label --truncation --force|-f --store --json",
    "ganctl evaluate": "run --samples --seed --extractor --store --json",
    "ganctl benchmark": "name --method --seeds --epochs --quick --data --workers --store --json",
    "ganctl export": "run --output|-o --format --force|-f --store --json",
    "ganctl housekeeping": "[overrides] --policy --delete --keys --store --json",
    "ganctl dashboard": "--host --port --role --public --proxy --certificate --key --token-file --store",
    "ganctl up": "--store --cpus",
    "ganctl status": "--store --json",
    "ganctl doctor": "--on --deep --store --json",
}
"""Arguments by name (in brackets where they may be left out), then options."""


def spelled(command: Any) -> str:
    words = []
    for parameter in command.params:
        option = parameter.param_type_name == "option"
        name = "|".join([*parameter.opts, *parameter.secondary_opts]) if option else str(parameter.name)
        words.append(name if option or parameter.required else f"[{name}]")
    return " ".join(sorted(words, key=lambda word: word.startswith("-")))


def tree(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from tree(child, f"{path} {name}")


def test_commands_and_options_are_those_of_the_table() -> None:
    assert {path: spelled(command) for path, command in tree(get_command(app), "ganctl")} == COMMANDS


def test_every_command_and_option_says_what_it_is() -> None:
    silent = [
        f"{path} {parameter.name}"
        for path, command in tree(get_command(app), "ganctl")
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []
    assert [path for path, command in tree(get_command(app), "ganctl") if not command.help] == []


def test_the_store_is_an_option_of_every_command_and_comes_from_the_environment() -> None:
    for path, command in tree(get_command(app), "ganctl"):
        stores = [p for p in command.params if p.name == "store"]
        assert path == "ganctl" or [p.envvar for p in stores] == ["GANCTL_STORE"], path

"""`ganctl recipes`: which experiments come with ganctl, and what each is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, StoreOption, command

commands = typer.Typer(help="Experiments that come with ganctl.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(commands, name="recipes")


@commands.callback(invoke_without_command=True)
@command
def recipes(context: typer.Context, as_json: JsonOption = False, store: StoreOption = STORE) -> None:
    """Experiments that come with ganctl; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        list_recipes(as_json, store)


@commands.command("list")
@command
def list_recipes(as_json: JsonOption = False, store: StoreOption = STORE) -> None:
    """List the recipes, one line each."""
    from orchestrator.recipes import RECIPES, summary

    found = [{"name": name, "summary": summary(recipe)} for name, recipe in RECIPES.items()]
    if as_json:
        output.show_json({"recipes": found})
        return
    output.print_table([output.Column("recipe", whole=True), "what it is"], [list(r.values()) for r in found])
    first = next(iter(RECIPES))
    output.next_steps(store, f"train {first}")


@commands.command("show")
@command
def show_recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A recipe, a YAML or JSON file, or package.module:function.")
    ],
    as_json: JsonOption = False,
    store: StoreOption = STORE,
) -> None:
    """Print the whole experiment as YAML, to be saved, changed and trained."""
    import yaml

    from orchestrator.recipes import load

    document = load(name).document()
    if as_json:
        output.show_json(document)
        return
    typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    output.next_steps(store, f"train {name}")

"""`ganctl families`: which kinds of GAN there are, and what each is."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, StoreOption, command

commands = typer.Typer(help="The kinds of GAN that ganctl trains.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(commands, name="families")


@commands.callback(invoke_without_command=True)
@command
def families(context: typer.Context, as_json: JsonOption = False, store: StoreOption = STORE) -> None:
    """The kinds of GAN that ganctl trains; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        list_families(as_json, store)


@commands.command("list")
@command
def list_families(as_json: JsonOption = False, store: StoreOption = STORE) -> None:
    """List the families, one line each."""
    from gans.families import FAMILIES
    from orchestrator.handbook import headline, recipes_of

    found = [{"name": tag, "what": headline(tag), "recipes": recipes_of(tag)} for tag in FAMILIES]
    if as_json:
        output.show_json({"families": found})
        return
    rows = [[f["name"], f["what"], ", ".join(f["recipes"])] for f in found]
    output.print_table([output.Column("family", whole=True), "what it is", "recipes"], rows)
    output.next_steps(store, f"families show {found[-1]['name']}", f"train {found[-1]['recipes'][0]}")


@commands.command("show")
@command
def show_family(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A family, or package.module:Class.")],
    as_json: JsonOption = False,
    store: StoreOption = STORE,
) -> None:
    """Print a family's page: what it is, its paper, phases, fields with defaults, and recipes, as Markdown."""
    from orchestrator.handbook import page, recipes_of

    text = page(name)
    if as_json:
        output.show_json({"name": name, "page": text, "recipes": recipes_of(name)})
        return
    typer.echo(text, nl=False)
    output.next_steps(store, *[f"train {recipe}" for recipe in recipes_of(name)[:1]])

"""`ganctl retrain run`: one round, now: through Prefect's server where there is one, else in this process."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, StoreOption, command, say

Here = Annotated[
    bool, typer.Option("--here", help="In this process, also where a Prefect server would do it.")
]
Force = Annotated[bool, typer.Option("--force", help="Also where the budget allows no more rounds today.")]


def register(commands: typer.Typer) -> None:
    """Add the command to the group `retrain`."""
    commands.command("run")(command(run))


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A retraining's name.")],
    force: Force = False,
    here: Here = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Run one round now: train a challenger, judge it against the champion, promote the better one."""
    import os

    from orchestrator.background import join
    from orchestrator.cli.launching import quiet_prefect
    from orchestrator.retrain import settings
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    now = settings.require(objects, name)
    background = None if here else join()
    quiet_prefect()
    if not here and os.environ.get("PREFECT_API_URL"):
        from flows.ask import ask
        from flows.retrain_deploy import deploy

        deploy(objects, now, background.ray if background else "")
        asked = ask(name, {"trigger": "hand", "force": force})
        url = os.environ["PREFECT_API_URL"].removesuffix("/api")
        if as_json:
            output.show_json({"flow_run": asked, "url": f"{url}/runs/flow-run/{asked}"})
            return
        say(f"asked Prefect for a round of {name}: {url}/runs/flow-run/{asked}")
        output.next_steps(store, "status", f"retrain history {name}")
        return
    _in_this_process(objects.url, name, force, store, as_json)


def _in_this_process(url: str, name: str, force: bool, store: str, as_json: bool) -> None:
    from orchestrator.cli.drawing import drawing

    with drawing(quiet=as_json):
        say("Starting: Prefect and PyTorch take a few seconds.", quiet=as_json)
        from flows.local import start_temporary_server
        from flows.retraining import retrain

        start_temporary_server()
        state: Any = retrain(name, url, force=force, return_state=True)
    if as_json:
        output.show_json({"state": state.name, "message": state.message})
    else:
        say(f"{state.name}: {state.message}")
        output.next_steps(store, f"retrain history {name}", f"models show {name}")
    if not state.is_completed():
        raise typer.Exit(7)

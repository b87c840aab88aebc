"""`ganctl up` and `ganctl status`: everything that one person needs on one machine, and how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command, say


def register(app: typer.Typer) -> None:
    """Add both commands to `app`."""
    for function in (up, status):
        app.command()(command(function))


def up(
    store: StoreOption = STORE,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs that Ray may use; all unless said.")] = None,
) -> None:
    """Start Prefect's server, a Ray head, the dashboard, a worker; deploy the store's retrainings; Ctrl-C ends it."""
    from orchestrator.background import Background
    from orchestrator.cli.launching import quiet_prefect
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    objects.folders("")
    quiet_prefect()
    from flows.supervisor import supervise

    def ready(background: Background) -> None:
        from orchestrator.background import join
        from orchestrator.retrain import settings

        join()
        from flows.retrain_deploy import deploy, deploy_upkeep

        names = settings.names(objects)
        for name in names:
            deploy(objects, settings.require(objects, name), background.ray)
        deploy_upkeep(objects.url)
        key = Path(background.dashboard_token).read_text()
        say(f"\ndashboard  {background.dashboard}/?token={key}")
        say(f"Prefect    {background.prefect.removesuffix('/api')}")
        say(f"Ray        {background.ray}")
        say(f"store      {objects.url}")
        say(f"logs       {background.logs}")
        say(f"retrain    {', '.join(names) or 'none yet: `ganctl retrain apply FILE`'}")
        say("\nCtrl-C ends it\n")

    supervise(objects.url, say, ready, cpus)


def status(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """What runs on this machine and in the store: servers, rounds, champions, runs."""
    from orchestrator.background import join
    from orchestrator.standing import standing
    from orchestrator.store.objects import open_objects

    found = standing(open_objects(store), join())
    if as_json:
        output.show_json(found)
        return
    output.print_table(
        ["what", "state", Column("where", whole=True)],
        [(part["what"], part["state"], part["where"]) for part in found["parts"]],
    )
    _retrainings(found["retrainings"])
    _runs(found["runs"])
    output.next_steps(store, *([] if found["up"] else ["up"]), "runs list", "retrain list")


def _retrainings(rows: list[dict[str, Any]]) -> None:
    if rows:
        say("")
        columns: list[Column | str] = ["retraining", Column("version", number=True), "last round", "next"]
        output.print_table(columns, [(r["name"], r["version"], r["last"], r["next"]) for r in rows])


def _runs(rows: list[dict[str, Any]]) -> None:
    if rows:
        say("")
        columns: list[Column | str] = [
            Column("run", whole=True),
            "name",
            "state",
            Column("step", number=True),
            "verdict",
        ]
        output.print_table(columns, [(r["id"], r["name"], r["state"], r["step"], r["verdict"]) for r in rows])

"""`python -m infra.local`: the cluster of several hosts on this machine. Needs root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.local.cluster import CHECKOUT, Cluster, ClusterError

State = Annotated[
    Path,
    typer.Option("--state", resolve_path=True, help="The folder of the cluster's state, logs and token."),
]
Name = Annotated[str, typer.Argument(metavar="HOST", help="host1, host2 ...; head or store, too.")]
FOLDER = CHECKOUT / ".local-cluster"

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def up(
    hosts: Annotated[int, typer.Option(min=1, help="Hosts besides the head.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs that each host offers to Ray.")] = 1,
    state: State = FOLDER,
) -> None:
    """Bring a head, hosts and an S3 server up, and print how to use them."""
    cluster = Cluster.up(state, hosts, cpus)
    told(cluster)
    for name, value in cluster.environment().items():
        typer.echo(f"export {name}={value}")
    typer.echo(f"ganctl train dcgan.digits --workers 2 --on {cluster.head} --store {cluster.store}")


@app.command()
def down(state: State = FOLDER) -> None:
    """End it and remove whatever it left: processes, namespaces, bridge, folder."""
    if (state / "cluster.json").exists():
        Cluster.load(state).down()


@app.command()
def status(state: State = FOLDER) -> None:
    """What is up, and what Ray makes of it."""
    told(Cluster.load(state))


@app.command()
def kill(host: Name, state: State = FOLDER) -> None:
    """Cut a host's power: every process of it ends at once."""
    Cluster.load(state).kill(host)


@app.command()
def cut(host: Name, state: State = FOLDER) -> None:
    """Pull a host's network cable: it runs on, and nothing reaches it."""
    Cluster.load(state).cut(host)


@app.command()
def heal(host: Name, state: State = FOLDER) -> None:
    """Put a host's network cable back."""
    Cluster.load(state).heal(host)


@app.command()
def add(state: State = FOLDER) -> None:
    """A host more: the head or a host that was killed, at its address, or a new one."""
    added = Cluster.load(state).add()
    typer.echo(f"{added.name} {added.address}")


def told(cluster: Cluster) -> None:
    """Print a line a host."""
    for name, address, state, view, memory in cluster.status():
        typer.echo(f"{name:8} {address:15} {state:6} Ray: {view:6} {memory:4.1f} GB")


if __name__ == "__main__":
    try:
        app()
    except ClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None

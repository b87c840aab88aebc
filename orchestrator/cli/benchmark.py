"""`ganctl benchmark`: run a published mode-collapse protocol and print it beside its floor and published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.protocol_table import Row, Spread, Table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("benchmark")(command(benchmark))


def benchmark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ring, grid, stacked-digits or stacked-mnist.")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="gan, pacgan2, pacgan4, pacgan2-r (points) or r3gan; again for more."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each method.")] = 10,
    epochs: Annotated[
        float | None,
        typer.Option("--epochs", min=0, help="Budget of a training; the protocol's own unless said."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The reduced budget of docs/benchmarks.md, for a laptop.")
    ] = False,
    data: Annotated[
        str | None, typer.Option("--data", metavar="PATH", help="Where MNIST lies, for stacked-mnist.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; a core each unless said.")
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Run a published mode-collapse protocol: modes, high-quality share, reverse KL; floor and papers beside them.

    Every training is kept as it ends: the same command carries on where it was killed, more seeds add to it.
    """
    from gans.protocols.benchmarks import benchmark as named
    from orchestrator.cli.drawing import drawing
    from orchestrator.cli.lookup import place
    from orchestrator.protocols import Plan, cores, run
    from orchestrator.store.objects import open_objects

    bench, objects = named(name, data), open_objects(store)
    methods = tuple(dict.fromkeys(method or bench.methods))
    plan = Plan(bench, bench.budget(epochs, quick), methods, seeds, workers or cores())
    with drawing(quiet=as_json):
        table = run(plan, objects)
    files = ("table.parquet", "samples.png")
    places = {what: place(objects, f"{plan.folder}/{what}") for what in files}
    if as_json:
        output.show_json(table.document() | {"budget": vars(plan.budget), "folder": plan.folder} | places)
        return
    typer.echo(
        f"{name}: {plan.budget.epochs:g} epochs{' (quick)' if quick else ''}, {bench.samples:,} samples\n"
    )
    _show(table)
    typer.echo("")
    output.print_lines({"table": places["table.parquet"], "samples": places["samples.png"]})
    words = f" --data {data}" if data else ""
    output.next_steps(
        store, f"benchmark {name}{words}" if quick else f"benchmark {name}{words} --seeds {seeds + 10}"
    )


def _show(table: Table) -> None:
    """Ours and theirs, a row a method; methods that only papers have, and real samples, below."""
    with_hq = table.floor.hq is not None
    heads = ["modes", *(["HQ %"] if with_hq else []), "KL"]
    columns: list[Column | str] = [
        Column("method", whole=True),
        *(Column(head, number=True) for head in heads),
        Column("complete", number=True),
        Column(f"paper: {', '.join(heads).replace(' %', '')}", whole=True),
    ]
    rows = [[*_ours(row, with_hq), _theirs(table, row.method)] for row in table.rows]
    ours = {row.method for row in table.rows}
    missing = dict.fromkeys(p.method for p in table.published if p.method not in ours)
    blank: list[object] = [None] * (len(heads) + 1)
    rows += [[name, *blank, _theirs(table, name)] for name in missing]
    floor = table.floor
    real = [
        f"{floor.modes:.1f}",
        *([f"{100 * floor.hq:.1f}"] if floor.hq is not None else []),
        f"{floor.kl:.4f}",
    ]
    rows.append(["real samples", *real, None, None])
    output.print_table(columns, rows)


def _ours(row: Row, with_hq: bool) -> list[object]:
    quality = [_spread(row.hq, 1, 100)] if with_hq else []
    complete = f"{row.complete} of {row.seeds}"
    return [row.method, _spread(row.modes, 1), *quality, _spread(row.kl, 4), complete]


def _theirs(table: Table, method: str) -> str | None:
    """Published figures in one cell, which has its place in 80 columns."""
    said = table.beside(method)
    if said is None:
        return None
    share = [] if said.hq is None else [f"{100 * said.hq:.1f}"]
    return ", ".join([f"{said.modes:g}", *share, f"{said.kl:g}"])


def _spread(spread: Spread | None, digits: int, times: float = 1.0) -> str | None:
    """Mean ± standard deviation."""
    if spread is None:
        return None
    mean = f"{times * spread.mean:.{digits}f}"
    return mean if spread.sd is None else f"{mean} ± {times * spread.sd:.{digits}f}"

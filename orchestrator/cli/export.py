"""`ganctl export`: a run's or a promoted model for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli import files, output
from orchestrator.cli.output import STORE, Force, JsonOption, RunName, StoreOption, command


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export")(command(export))


def export(
    run: RunName,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    form: Annotated[
        Literal["safetensors", "onnx"],
        typer.Option(
            "--format", help="Weights with what rebuilds the networks, or a generator that runs anywhere."
        ),
    ] = "safetensors",
    force: Force = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a run's newest model, or a promoted one, as safetensors or ONNX."""
    if out.is_dir():
        raise typer.BadParameter(f"{out} is a folder; name a file in it", param_hint=files.OUTPUT)
    files.check_output(out, force)
    from gans.export import export_onnx, export_safetensors
    from orchestrator.cli.lookup import resolve_model
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    chosen = resolve_model(objects, run)
    told = chosen.document | {"format": form, "output": str(out.absolute())}
    with output.working(f"exporting {chosen.label}"):
        trained = chosen.restore(objects)
        if form == "onnx":
            told["difference"] = export_onnx(trained.model, out)
        else:
            files.write_file(out, export_safetensors(trained.model))
    told["step"] = trained.step
    if as_json:
        output.show_json(told)
        return
    difference = told.get("difference")
    checked = "" if difference is None else f" (differs from PyTorch by {difference:.1g})"
    typer.echo(f"{chosen.label} at step {trained.step} as {form}: {out}{checked}")

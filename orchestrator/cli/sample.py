"""`ganctl sample`: samples of a run or a promoted model as one picture, a folder of pictures, or an array file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import files, output
from orchestrator.cli.output import STORE, Force, JsonOption, RunName, StoreOption, command

if TYPE_CHECKING:
    from gans.data.base import Batch
    from orchestrator.trained import Trained

PICTURE, ARRAYS = ".png", ".npz"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sample")(command(sample))


def sample(
    run: RunName,
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="grid.png, a folder for one PNG a sample, or samples.npz (uint8 NHWC)."
        ),
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal samples.")] = 0,
    label: Annotated[
        list[int] | None, typer.Option("--label", help="Only this class (repeat for several, in turn).")
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(
            "--truncation",
            min=0,
            help="Bound of the latents, or psi of StyleGAN: typical rather than varied.",
        ),
    ] = None,
    force: Force = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Draw samples from a run's newest checkpoint, or from a model's champion: the promoted checkpoint.

    Every PNG says which run, step and seed made it.
    """
    if out.suffix not in (PICTURE, ARRAYS, "") and not out.is_dir():
        raise typer.BadParameter(
            f"{out}: write name{PICTURE} for one picture, name{ARRAYS} for arrays, or a folder",
            param_hint="--output",
        )
    files.check_output(out, force)
    from orchestrator.cli.lookup import resolve_model
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    chosen = resolve_model(objects, run)
    with output.working(f"sampling {num}"):
        trained = chosen.restore(objects)
        if truncation is not None:
            trained = replace(trained, model=trained.model.truncated(truncation))
        inputs = _inputs(trained, num)
        samples = trained.model.sample(num, seed, label or None, inputs)
        _write(trained, out, inputs, samples, seed)
    drawn = {"step": trained.step, "seed": seed, "num": num, "output": str(out.absolute())}
    if as_json:
        output.show_json(chosen.document | drawn)
    else:
        typer.echo(f"{num} samples of {chosen.label} at step {trained.step}: {out}")


def _inputs(trained: Trained, num: int) -> Batch:
    """Held-out rows to map, for a family that maps data."""
    from orchestrator.trained import load_split

    return trained.inputs(load_split(trained.experiment, "held_out"), num) if trained.model.asks else {}


def _write(trained: Trained, out: Path, inputs: Batch, samples: Batch, seed: int) -> None:
    meta = {"run": trained.run_id, "step": str(trained.step), "seed": str(seed)}
    if out.suffix == ARRAYS and not out.is_dir():
        files.write_file(out, _arrays(samples))
    elif out.suffix == PICTURE and not out.is_dir():
        files.write_file(out, _picture(trained, inputs, samples, meta))
    else:
        files.write_folder(out, _pictures(samples, meta))


def _picture(trained: Trained, inputs: Batch, samples: Batch, meta: dict[str, str]) -> bytes:
    """One PNG of all samples: a grid, or for vectors a scatter plot over held-out real ones."""
    from gans.pictures import encode, picture_of
    from orchestrator.trained import load_split

    real = None
    if samples["x"].dim() == 2:
        held_out = load_split(trained.experiment, "held_out")
        real = held_out.fetch(held_out.order(0, 0)[:1000])[trained.experiment.gan.imitates]
    return encode(picture_of(trained.experiment.gan, inputs, samples, real), meta)


def _pictures(samples: Batch, meta: dict[str, str]) -> dict[str, bytes]:
    """A PNG a sample, by file name; its metadata carries the sample's number and, where there is one, its label."""
    from gans.pictures import encode, grid

    if samples["x"].dim() != 4:
        raise typer.BadParameter(
            f"these samples are vectors, not pictures: write name{PICTURE} for a plot or name{ARRAYS}",
            param_hint="--output",
        )
    labels = samples["label"].tolist() if "label" in samples else []
    pictures = {}
    for i, x in enumerate(samples["x"].split(1)):
        told = {"sample": str(i)} | ({"label": str(labels[i])} if labels else {})
        pictures[f"{i:06d}{PICTURE}"] = encode(grid([x.float().cpu()], scale=1), meta | told)
    return pictures


def _arrays(samples: Batch) -> bytes:
    """`images` uint8 (N, H, W, C), or `points` float32 (N, D); and `labels` int64 (N,) where there are any."""
    import numpy as np

    from gans.pictures import to_uint8

    x = samples["x"]
    arrays: dict[str, Any] = {"images": to_uint8(x)} if x.dim() == 4 else {"points": x.float().cpu().numpy()}
    if "label" in samples:
        arrays["labels"] = samples["label"].cpu().numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()

"""`ganctl evaluate`: score a run's newest checkpoint, or a model's champion, again, beside held-out real data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, RunName, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.store.objects import Objects
    from orchestrator.trained import Trained


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate")(command(evaluate))


def evaluate(
    run: RunName,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=0, help="How many of either kind; 0: as many as are held out."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Of the samples; without it, the ones the run was scored on."),
    ] = None,
    extractor: Annotated[
        str, typer.Option("--extractor", help="auto, classifier, random, or a file of Inception-v3 weights.")
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Score a run's newest checkpoint, or a model's champion.

    Every figure stands beside that of held-out real data, its floor.
    """
    from orchestrator.cli.lookup import resolve_model
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    chosen = resolve_model(objects, run)
    with output.working(f"scoring {chosen.label}"):
        scores = chosen.document | _scores(objects, chosen.restore(objects), samples, seed, extractor)
    if as_json:
        output.show_json(scores)
        return
    typer.echo(
        f"{chosen.label} at step {scores['step']}: {scores['samples']} samples, features of {scores['extractor']}\n"
    )
    output.print_figures({"run": scores["figures"], "real floor": scores["floor"]})


def _scores(
    objects: Objects, trained: Trained, samples: int | None, seed: int | None, choice: str
) -> dict[str, Any]:
    """Figures and floor, measured as during training wherever nothing else was asked for."""
    from gans.data.views import imitated
    from gans.loop import SAMPLE_SEED
    from gans.metrics import Evaluator, extractor_for
    from gans.sampling import own_figures
    from orchestrator.store.extractors import StoreCache
    from orchestrator.trained import load_split

    e = trained.experiment
    train, held_out = load_split(e, "train"), load_split(e, "held_out")
    real, held = imitated(train, e.gan.imitates), imitated(held_out, e.gan.imitates)
    extractor = extractor_for(real, StoreCache(objects), choice or e.train.extractor)
    num = e.train.evaluate_samples if samples is None else samples
    evaluator = Evaluator(real, held, extractor, num, seed=0)
    seed = SAMPLE_SEED + e.seed if seed is None else seed
    num = evaluator.num_samples
    model = trained.model
    drawn = model.sample(num, seed, inputs=trained.inputs(held_out, num))
    figures = evaluator(drawn["x"], drawn.get("label"))
    return {
        "run": trained.run_id,
        "step": trained.step,
        "samples": num,
        "seed": seed,
        "extractor": extractor.name,
        "figures": figures | own_figures(model.family, model.networks, seed, model.device),
        "floor": evaluator.floor,
    }

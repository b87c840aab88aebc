"""A deck of pictures for people to judge, half of them real: `python -m orchestrator.deck STORE RUN NUM`.

It is one object, arrays `images` (uint8 NHWC), `real` (bool) and `step`, in an order drawn at random. The dashboard
asks for it in a process of its own, because models need PyTorch. After HYPE (Zhou et al., arXiv 1904.01121).
"""

from __future__ import annotations

import io
import secrets
import sys

import numpy as np

from gans.data.base import to_float
from gans.pictures import to_uint8
from orchestrator.errors import ConfigError, GanctlError
from orchestrator.store.ids import new_id
from orchestrator.store.layout import deck_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.trained import Trained, load_split


def make(objects: Objects, run_id: str, num: int, seed: int | None = None) -> str:
    """Write a deck of `num` pictures of the run's newest checkpoint and of held-out data; returns its id.

    Conditions of the generated ones are as frequent as in the data. Raises ConfigError for a run without pictures or
    data with fewer, and what `Trained.restore` raises.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    trained = Trained.restore(objects, run_id)
    family, spec = trained.model.family, trained.model.spec
    if spec.fields[family.imitates].kind != "image":
        raise ConfigError(f"run {run_id} makes points, not pictures: there is nothing for a person to judge")
    held_out, half = load_split(trained.experiment, "held_out"), num // 2
    if len(held_out) < half:
        raise ConfigError(f"the held-out data has {len(held_out)} pictures, fewer than {half}")
    shuffled = np.random.default_rng(seed)
    rows = to_float(held_out.fetch(held_out.order(seed, 0)[:half]))[family.imitates]
    drawn = trained.model.sample(half, seed, inputs=trained.inputs(held_out, half))["x"]
    images = np.concatenate([to_uint8(rows), to_uint8(drawn)])
    order = shuffled.permutation(len(images))
    data = io.BytesIO()
    np.savez_compressed(
        data, images=images[order], real=(np.arange(len(images)) < half)[order], step=trained.step
    )
    deck_id = new_id()
    objects.create(deck_key(run_id, deck_id), data.getvalue())
    return deck_id


def main() -> int:
    """Make the deck and print its id."""
    store, run_id, num = sys.argv[1:]
    try:
        sys.stdout.write(make(open_objects(store), run_id, int(num)) + "\n")
    except GanctlError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

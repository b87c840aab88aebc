"""A page a family, made of what it says of itself: docstring, phases, fields, recipes, and a grid that a recipe made.

It knows nothing of terminals: `ganctl families show` prints a page, docs/families holds all of them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from gans.families import FAMILIES, family_class
from gans.family import Family, Phase
from gans.schedule import Cosine, at
from orchestrator.recipes import RECIPES, summary

PICTURES = "../pictures/families"


def headline(tag: str) -> str:
    """The first sentence of what a family says of itself."""
    return _module(tag).partition(":")[0].replace("\n", " ")


def recipes_of(tag: str) -> list[str]:
    """The recipes that train this family."""
    cls = family_class(tag)
    return [name for name, recipe in RECIPES.items() if type(recipe().gan) is cls]


def page(tag: str) -> str:
    """The Markdown page of the family called `tag`. Raises ConfigError where there is none."""
    cls = family_class(tag)
    parts = [f"# {tag}", _module(tag), *_recipes(tag), "## Phases", _phases(cls), "## Fields"]
    return "\n\n".join([*parts, inspect.getdoc(cls) or "", *_fields(cls)]) + "\n"


def index() -> str:
    """The Markdown page that lists the families."""
    rows = [[f"[{tag}]({tag}.md)", headline(tag), ", ".join(recipes_of(tag))] for tag in FAMILIES]
    table = _table(["family", "what it is", "recipes"], rows)
    told = (
        "Each page is what `ganctl families show NAME` prints; `make docs` writes them. The pictures are the last "
        "sample grids of the recipes, as `python -m tests.benchmarks.families` trained them."
    )
    return f"# Families\n\n{told}\n\n{table}\n\n![Samples of every recipe]({PICTURES}/sheet.png)\n"


def write(folder: Path) -> None:
    """Write every page into `folder`, the list as README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(index())
    for tag in FAMILIES:
        (folder / f"{tag}.md").write_text(page(tag))


def _module(tag: str) -> str:
    return inspect.getdoc(sys.modules[family_class(tag).__module__]) or ""


def _recipes(tag: str) -> Iterator[str]:
    names = recipes_of(tag)
    if names:
        lines = "\n".join(f"ganctl train {name:<24} # {summary(RECIPES[name])}" for name in names)
        yield f"```sh\n{lines}\n```"
        yield "\n\n".join(f"![Samples of {name}]({PICTURES}/{name}.png)" for name in names)


def _phases(cls: type[Family]) -> str:
    rows = [_phase(phase) for phase in cls().phases()]
    return _table(["phase", "trains", "runs", "optimiser"], rows)


def _phase(phase: Phase) -> list[str]:
    runs = [
        f"{phase.repeats} x a step" if phase.repeats > 1 else "",
        f"every {phase.every} steps" if phase.every > 1 else "",
        f"from step {phase.start}" if phase.start else "",
        f"until step {phase.stop}" if phase.stop is not None else "",
    ]
    o = phase.optimiser
    betas = ", ".join(f"{at(b, 0.0):.3g}" for b in o.betas)
    optimiser = f"{o.kind} {_shown(o.lr)}" + (f", betas {betas}" if o.kind == "adam" else "")
    return [phase.name, ", ".join(phase.trains), ", ".join(filter(None, runs)) or "every step", optimiser]


def _fields(cls: type[Family]) -> Iterator[str]:
    """The fields of the family's own, and those it shares with others."""
    own = {name for name in cls.__annotations__ if name in cls.model_fields}
    rows = {name: _field(name, cls.model_fields[name]) for name in cls.field_names()}
    yield _table(["field", "default", "what it is"], [rows[name] for name in rows if name in own])
    if shared := [rows[name] for name in rows if name not in own]:
        yield "Fields it shares with other families:"
        yield _table(["field", "default", "what it is"], shared)


def _field(name: str, info: FieldInfo) -> list[str]:
    return [f"`gan.{name}`", f"`{_shown(info.default)}`", info.description or ""]


def _shown(value: Any) -> str:
    if isinstance(value, Cosine):
        return f"{value.start:g} → {value.end:g}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "null" if value is None else str(value)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

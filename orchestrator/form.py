"""Every recipe's experiment as fields of a form, as JSON on stdout: `python -m orchestrator.form`.

The dashboard asks for it in a process of its own, because recipes import PyTorch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from gans.config import Config
from orchestrator.experiment import Experiment
from orchestrator.recipes import RECIPES, load, summary

Document = dict[str, Any]

SECTIONS = ("gan", "data", "train", "scale", "health")
FIXED = ("gan.family", "data.kind")  # another one would be another recipe
KINDS = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "text"}


def form(name: str) -> Document:
    """Every field of recipe `name`, with its value and what it may be. Raises NotFound."""
    experiment = load(name)
    document = experiment.document()
    fields = [
        field for section in SECTIONS for field in section_fields(experiment, section, document[section])
    ]
    seed = {"path": "seed", "value": experiment.seed, "kind": "integer", "optional": False, "minimum": 0}
    return {
        "recipe": name,
        "name": experiment.name,
        "family": document["gan"]["family"],
        "summary": summary(RECIPES[name]),
        "about": {section: doc_of(getattr(experiment, section)) for section in SECTIONS},
        "fields": [*fields, seed],
    }


def doc_of(config: Config) -> str:
    """What a section's fields mean, as its class says."""
    return " ".join((type(config).__doc__ or "").split())


def section_fields(experiment: Experiment, section: str, values: Mapping[str, Any]) -> Iterator[Document]:
    """The fields of one section that have a plain value, in order; others are changed on the command line."""
    config = type(getattr(experiment, section))
    schema = config.model_json_schema()
    for name in config.field_names():
        about = schema["properties"][name]
        path, value = f"{section}.{name}", values.get(name)
        if path in FIXED or isinstance(value, dict):
            continue
        yield {"path": path, "value": value, **kind_of(about, schema.get("$defs", {}))}


def kind_of(about: Mapping[str, Any], definitions: Mapping[str, Any]) -> Document:
    """How a field is entered: integer, number, boolean, choice or text, and its bounds."""
    options = [resolved(each, definitions) for each in about.get("anyOf", [about])]
    told = [each for each in options if each.get("type") != "null"]
    one = told[0] if len(told) == 1 else {}
    found: Document = {"optional": len(told) < len(options), "doc": about.get("description", "")}
    if "enum" in one:
        return found | {"kind": "choice", "choices": one["enum"]}
    bounds = {name: one[name] for name in ("minimum", "maximum", "exclusiveMinimum") if name in one}
    return found | {"kind": KINDS.get(str(one.get("type")), "text")} | bounds


def resolved(about: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference refers to."""
    reference = str(about.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = definitions.get(reference, about)
    return found


def main() -> None:
    """Print `recipes`, and `forms` by recipe: PyTorch is imported once for all of them."""
    recipes = [{"name": name, "summary": summary(recipe)} for name, recipe in RECIPES.items()]
    sys.stdout.write(json.dumps({"recipes": recipes, "forms": {name: form(name) for name in RECIPES}}))


if __name__ == "__main__":
    main()

"""The shape of the house: import layers, one loop for every family, no unpickling of code, small files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gans", "orchestrator", "flows")
FAMILIES = ROOT / "gans" / "families"
MAX_LINES = 400
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = ("torch", "ray", "prefect", "optuna", "pyarrow", "s3fs")

# Loaders that run code found in the file; torch.load alone can be told not to.
UNPICKLERS = {
    f"{module}.{name}"
    for module in ("pickle", "cloudpickle", "dill", "joblib", "ray.cloudpickle")
    for name in ("load", "loads", "Unpickler")
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run_python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- import layers


def test_import_contracts_hold() -> None:
    """In a process of its own: import-linter's set-up of logging silences every logger that is there already."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert linted.returncode == 0, linted.stdout + linted.stderr


IMPORT_ALL_OF_GANS = """
import importlib, json, pkgutil, sys

blocked = set(json.loads(sys.argv[1]))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked by this test", name=name)

def fail(name):
    raise

sys.meta_path.insert(0, Blocker())
import gans
names = [module.name for module in pkgutil.walk_packages(gans.__path__, "gans.", onerror=fail)]
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""


def test_gans_imports_where_neither_cluster_nor_store_is_installed() -> None:
    contract = next(
        c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["source_modules"] == ["gans"]
    )
    imported = json.loads(run_python(IMPORT_ALL_OF_GANS, json.dumps(contract["forbidden_modules"])))
    expected = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources("gans")
    }
    assert set(imported) == expected - {"gans"}


def test_importing_the_cli_loads_none_of_the_heavy_libraries() -> None:
    if not any((ROOT / "orchestrator" / name).is_file() for name in ("cli.py", "cli/__init__.py")):
        pytest.skip("orchestrator/cli does not exist yet")
    code = "import json, sys, orchestrator.cli; print(json.dumps(sorted(sys.modules)))"
    assert set(HEAVY).isdisjoint(json.loads(run_python(code)))


# --- one loop for every family


def family_modules() -> set[str]:
    """Names of the modules in gans/families: the names of the families."""
    return {path.stem if path.is_file() else path.name for path in FAMILIES.iterdir()} - {
        "__init__",
        "__pycache__",
    }


def family_classes() -> set[str]:
    """Names of the classes defined in gans/families."""
    trees = [ast.parse(path.read_text()) for path in FAMILIES.rglob("*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def last_name(node: ast.AST) -> str:
    """`c` of `a.b.c`, of `c` and of `a["c"]`; otherwise empty."""
    match node:
        case (
            ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name)))
        ):
            return name
    return ""


def strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def family_branches(tree: ast.AST, names: set[str], classes: set[str]) -> Iterator[int]:
    """Lines that decide by family: comparisons with a family's name or class, instance checks, cases."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                constants = [s for s in sides if isinstance(s, ast.Constant | ast.Tuple | ast.List | ast.Set)]
                compared = set().union(*map(strings, constants))
                about_family = any(last_name(side) == "family" for side in sides)
                if compared & names or (about_family and compared) or classes & set(map(last_name, sides)):
                    yield node.lineno
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                if classes & set(map(last_name, ast.walk(kinds))):
                    yield node.lineno
            case ast.Match(subject=subject, cases=cases):
                patterns = [part for case in cases for part in ast.walk(case.pattern)]
                matched = {last_name(p.cls) for p in patterns if isinstance(p, ast.MatchClass)}
                words = set().union(*(strings(case.pattern) for case in cases))
                if matched & classes or words & names or (last_name(subject) == "family" and words):
                    yield node.lineno


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("if experiment.family == 'anything': pass", True),
        ("if run['family'] in ('anything', 'else'): pass", True),
        ("if gan.kind == 'wgan': pass", True),
        ("if type(gan) is WGAN: pass", True),
        ("if isinstance(gan, (int, families.WGAN)): pass", True),
        ("match gan:\n  case WGAN(): pass", True),
        ("match family:\n  case 'anything': pass", True),
        ("table = {'wgan': WGAN}", False),
        ("if isinstance(gan, Family): pass", False),
        ("if run.family == other.family: pass", False),
        ("if len(family) == 2: pass", False),
    ],
)
def test_the_detector_of_family_branches_knows_a_branch_from_a_table(code: str, found: bool) -> None:
    assert bool(list(family_branches(ast.parse(code), {"wgan"}, {"WGAN"}))) is found


def test_nothing_outside_the_families_decides_by_family() -> None:
    names, classes = family_modules(), family_classes()
    outside = [path for path in sources(*PACKAGES) if FAMILIES not in path.parents]
    branches = [
        f"{relative(path)}:{line}"
        for path in outside
        for line in family_branches(ast.parse(path.read_text()), names, classes)
    ]
    assert branches == []


# --- nothing unpickles code


def dotted(node: ast.AST, imported: dict[str, str]) -> str:
    """`a.b.c` in full, with the names bound by imports resolved."""
    match node:
        case ast.Name(id=name):
            return imported.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value, imported)}.{attr}"
    return ""


def bindings(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported from, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found |= {alias.asname: alias.name for alias in aliases if alias.asname}
            case ast.ImportFrom(module=str(module), names=aliases):
                found |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
    return found


def unpickling(tree: ast.AST) -> Iterator[int]:
    """Lines that load a file which may carry code."""
    imported = bindings(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = dotted(node.func, imported)
        flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe_torch = function == "torch.load" and flags.get("weights_only") != "True"
        unsafe_numpy = function == "numpy.load" and flags.get("allow_pickle", "False") != "False"
        if function in UNPICKLERS or unsafe_torch or unsafe_numpy:
            yield node.lineno


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle\npickle.load(f)", True),
        ("from pickle import loads as read\nread(b)", True),
        ("import torch\ntorch.load(f)", True),
        ("import torch as t\nt.load(f, weights_only=False)", True),
        ("import torch\ntorch.load(f, weights_only=True)", False),
        ("import numpy as np\nnp.load(f, allow_pickle=True)", True),
        ("import numpy as np\nnp.load(f)", False),
        ("import json\njson.load(f)", False),
    ],
)
def test_the_detector_of_unpickling_knows_safe_from_unsafe(code: str, found: bool) -> None:
    assert bool(list(unpickling(ast.parse(code)))) is found


def test_nothing_unpickles_code() -> None:
    lines = [
        f"{relative(path)}:{line}"
        for path in sources(*PACKAGES)
        for line in unpickling(ast.parse(path.read_text()))
    ]
    assert lines == []


# --- small files


def test_no_file_has_outgrown_its_reader() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in sources(*PACKAGES)}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}

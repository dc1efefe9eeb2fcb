"""The packages stand in layers, and imports point downward only.

The proof reads the source of every module, so it cannot go stale: a new module without a layer
fails, and so does an import inside a function or behind `TYPE_CHECKING`.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "loc_keras"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
MAX_LINES = 700


@dataclass(frozen=True)
class Group:
    """Modules that belong together: they stand in one layer and may import each other."""

    layer: int
    modules: frozenset[str]


def _group(layer: int, *modules: str) -> Group:
    return Group(layer, frozenset(modules))


# A module is named by its first part below the package: `data` stands for all of `data/`.
COMMANDS = _group(
    6,
    *("train", "evaluate", "calibrate", "predict", "export", "check", "convert", "digits"),
    *("demo", "train_workers", "__main__"),
    # What commands share stands beside them: it may know the whole config.
    *("cli", "commands", "beam", "bulk", "demo_page"),
)
GROUPS = (
    COMMANDS,
    _group(5, "localizer"),
    _group(4, "serving"),
    _group(4, "report"),
    _group(4, "trust"),
    _group(3, "training"),
    _group(2, "evaluation"),
    _group(2, "models"),
    _group(2, "data"),
    _group(1, "boxes", "losses", "metrics"),
    _group(0, "recipe"),
    _group(0, "_environ", "atomic_file", "config", "errors"),
)
# The one import upwards, when it is called: a run's model is measured and exported by the commands.
EVALUATED = ("loc_keras.localizer.localizer", "loc_keras.commands.python")

GROUP_OF = {module: group for group in GROUPS for module in group.modules}

# A package may take its own section of the config, from the module that declares it. The whole
# config (`config.schema`), and how it is read, are known to the commands alone.
MAY_IMPORT_CONFIG = COMMANDS.modules | {"config"}
OWN_SECTIONS = {
    "data": frozenset({"config.data"}),
    "training": frozenset({"config.train"}),
    "models": frozenset({"config.schema.BackboneConfig"}),
    "trust": frozenset({"config.schema.TrustConfig"}),
}

# What runs on every Keras backend must not name one; keras_cv imports TensorFlow by itself.
BACKENDS = frozenset({"tensorflow", "keras_cv", "torch", "jax"})
FRAMEWORKS = BACKENDS | {"keras", "tensorboard"}
BANNED_PACKAGES = {
    **dict.fromkeys(("boxes", "losses", "metrics", "models", "evaluation"), BACKENDS),
    **dict.fromkeys(("config", "errors", "recipe"), FRAMEWORKS),
}


def imported_names(source: str, module: str, *, is_package: bool = False) -> list[tuple[int, str]]:
    """Absolute dotted names that a module's source imports, each with its line.

    `from a import b` gives `a.b`, since `b` may be a module. `module` is the dotted name of the
    source itself, against which relative imports are resolved.
    """
    parents = module.split(".") if is_package else module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
        elif isinstance(node, ast.Call) and _is_dynamic_import(node):
            found.append((node.lineno, node.args[0].value))
    return found


def _is_dynamic_import(call: ast.Call) -> bool:
    """Whether this is `import_module("...")` or `__import__("...")` with a constant name."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if name not in {"import_module", "__import__"} or not call.args:
        return False
    return isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Sentences, one for each import in `source` that breaks the order of the layers."""
    importer = module.split(".")[1]
    if importer not in GROUP_OF:
        return [f"{module} has no layer: give {importer!r} one in GROUPS"]
    found = []
    for line, name in imported_names(source, module, is_package=is_package):
        if (module, name) == EVALUATED:
            continue
        reason = _breach(importer, name)
        if reason:
            found.append(f"{module}, line {line}, imports {name}: {reason}")
    return found


def _breach(importer: str, name: str) -> str | None:
    """Why `importer` may not import the dotted `name`; None where it may."""
    package, *parts = name.split(".")
    if package != PACKAGE:
        banned = BANNED_PACKAGES.get(importer, frozenset())
        return f"{importer} must do without {package}" if package in banned else None
    if not parts or parts[0] not in GROUP_OF:
        return f"import from the module that defines it; {name} is the public API or has no layer"
    imported = parts[0]
    if imported == "config" and importer not in MAY_IMPORT_CONFIG:
        own = OWN_SECTIONS.get(importer, frozenset())
        if ".".join(parts[:2]) not in own and ".".join(parts[:3]) not in own:
            return "only commands know the whole config; a package may take its own section"
    own, other = GROUP_OF[importer], GROUP_OF[imported]
    if own is other or own.layer > other.layer:
        return None
    return f"{importer} is in layer {own.layer}, {imported} in layer {other.layer}"


def api_breaches(source: str) -> list[str]:
    """What `loc_keras/__init__.py` holds beyond a list of the names that the package offers.

    Allowed are a docstring, imports from below the commands, dunder names set to literals, and what
    makes an import wait: `__getattr__` (PEP 562), with the same import for type checkers alone.
    """
    found = []
    for node in ast.parse(source).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_import = isinstance(node, ast.ImportFrom | ast.Import)
        if not (is_docstring or is_import or _is_dunder(node) or _makes_wait(node)):
            found.append(f"line {node.lineno} does more than list what the package offers")
    for line, name in imported_names(source, PACKAGE, is_package=True):
        package, *parts = name.split(".")
        group = GROUP_OF.get(parts[0]) if parts else None
        if package in {"typing", "importlib"}:
            continue
        if name == "loc_keras.commands.python.train":  # The one command that Python calls, too.
            continue
        if package != PACKAGE or group is None or group is COMMANDS:
            found.append(f"line {line} imports {name}, which is not below the commands")
    return found


def _is_dunder(node: ast.stmt) -> bool:
    """Whether the statement sets one name such as `__all__` to a literal."""
    if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
        return False
    name = getattr(node.targets[0], "id", "")
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return name.startswith("__") and name.endswith("__")


def _makes_wait(node: ast.stmt) -> bool:
    """Whether the statement imports a name when it is asked for, or for type checkers alone."""
    if isinstance(node, ast.FunctionDef):
        return node.name in {"__getattr__", "__dir__"}
    is_for_checkers = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    return is_for_checkers and all(isinstance(one, ast.ImportFrom) for one in node.body)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(ROOT.rglob("*.py"))
PUBLIC_API = ROOT / "__init__.py"


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_sources_are_found() -> None:
    # Guards the parametrised tests below: over an empty list they would pass unseen.
    assert {"errors.py", "config/schema.py"} <= {_name(path) for path in SOURCES}


@pytest.mark.parametrize("path", [path for path in SOURCES if path != PUBLIC_API], ids=_name)
def test_imports_point_downward(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert breaches(source, _dotted(path), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_file_is_short_enough_to_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{_name(path)} has {lines} lines: split it by subject"


def test_public_api_only_lists_names() -> None:
    assert api_breaches(PUBLIC_API.read_text(encoding="utf-8")) == []


# The checker itself, on small made-up sources.


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "loc_keras.train",
            "from loc_keras.config.load import load\nfrom . import training, report",
        ),
        ("loc_keras.report.gallery", "from loc_keras import boxes\nfrom .colours import RED"),
        ("loc_keras.losses", "import keras\nfrom loc_keras.boxes import iou"),
        ("loc_keras.data.csv", "import tensorflow as tf\nfrom ..errors import DataError"),
        (
            "loc_keras.config.load",
            "from ruamel.yaml import YAML\nfrom .config import Config",
        ),
        ("loc_keras.models.heads", "from keras import ops\nfrom loc_keras.models.body import body"),
        ("loc_keras.training.fit", "from loc_keras.config.train import TrainConfig"),
        ("loc_keras.trust.fit", "from loc_keras.config.schema import TrustConfig"),
        # A name that only begins like the package is another package.
        ("loc_keras.boxes", "import loc_keras_extras.train"),
    ],
)
def test_checker_accepts(module: str, source: str) -> None:
    assert breaches(source, module) == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("loc_keras.boxes", "from loc_keras.models import build", "boxes is in layer 1"),
        ("loc_keras.boxes", "import loc_keras.training.fit as fit", "training in layer 3"),
        ("loc_keras.data.csv", "from loc_keras.models.heads import x", "data is in layer 2"),
        ("loc_keras.models.body", "from loc_keras.data import records", "models is in layer 2"),
        ("loc_keras.models.body", "from .. import data", "models is in layer 2"),
        ("loc_keras.models.body", "from ..data.csv import read", "models is in layer 2"),
        ("loc_keras.serving.bundle", "from loc_keras.report import html", "report in layer 4"),
        ("loc_keras.training.fit", "from loc_keras.train import main", "train in layer 6"),
        ("loc_keras.training.fit", "from loc_keras.config.schema import Config", "only commands"),
        ("loc_keras.models.body", "from loc_keras.config.train import TrainConfig", "own section"),
        ("loc_keras.errors", "from loc_keras.config.schema import Config", "only commands"),
        ("loc_keras.losses", "import tensorflow as tf", "do without tensorflow"),
        ("loc_keras.models.body", "from tensorflow.keras import layers", "without tensorflow"),
        ("loc_keras.config.schema", "import keras", "do without keras"),
        ("loc_keras.errors", "def f():\n    import tensorflow", "do without tensorflow"),
        ("loc_keras.metrics", "import importlib\nimportlib.import_module('torch')", "torch"),
        (
            "loc_keras.boxes",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .data import records",
            "data in layer 2",
        ),
        ("loc_keras.boxes", "import loc_keras", "public API"),
        ("loc_keras.train", "from loc_keras import Localizer", "public API"),
        ("loc_keras.utils", "", "'utils' one in GROUPS"),
        ("loc_keras.train", "from loc_keras.helpers import x", "has no layer"),
    ],
)
def test_checker_refuses(module: str, source: str, reason: str) -> None:
    (breach,) = breaches(source, module)
    assert reason in breach
    assert breach.startswith(module)


def test_checker_resolves_relative_imports_of_a_package() -> None:
    # In data/__init__.py one dot is `loc_keras.data`; in data/csv.py as well.
    assert imported_names("from . import csv", "loc_keras.data", is_package=True) == [
        (1, "loc_keras.data.csv")
    ]
    assert imported_names("from . import csv", "loc_keras.data.voc") == [(1, "loc_keras.data.csv")]


@pytest.mark.parametrize(
    "source",
    [
        "print('hello')",
        "VERSION = '1'",
        "__all__ = sorted(globals())",
        "import tensorflow",
        "from loc_keras.train import main",
        "from .nowhere import x",
        "def helper(): ...",
    ],
)
def test_public_api_refuses(source: str) -> None:
    assert len(api_breaches(source)) == 1


def test_public_api_accepts_a_list_of_names() -> None:
    source = '"""What it is."""\nfrom .boxes import iou\n__all__ = ["iou"]\n__version__ = "0.1.0"'
    assert api_breaches(source) == []

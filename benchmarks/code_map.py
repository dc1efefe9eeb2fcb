"""How many files, lines and modules a reader meets: reads the tree and its imports, runs nothing.

    python -m benchmarks.code_map                 # this checkout
    python -m benchmarks.code_map OTHER_CHECKOUT  # beside another one, in a second column

Modules loaded by a command are those of `loc_keras` that its import reaches, by imports at the top
level of modules; imports inside functions wait until they are needed and are not counted.
"""

import argparse
import ast
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "loc_keras"
SMALL = 60
COMMANDS = ("train", "predict", "evaluate", "check", "export")


def sources(root: Path) -> dict[str, Path]:
    """The modules of the package below `root`, by dotted name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def top_level_imports(path: Path, module: str) -> Iterator[str]:
    """Absolute dotted names that a module imports when it is imported itself."""
    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            yield from (".".join([*base, alias.name]) for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def loaded_modules(modules: dict[str, Path], start: str) -> set[str]:
    """Modules of the package that `import start` loads, with the packages that hold them."""
    loaded: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        # `from a import b` may name a module or something in it; a module loads its packages.
        for known in (name, name.rpartition(".")[0]):
            if known in modules and known not in loaded:
                loaded.add(known)
                waiting += [known.rpartition(".")[0]] if "." in known else []
                waiting += top_level_imports(modules[known], known)
    return loaded


def figures(root: Path) -> dict[str, int]:
    """The figures of a checkout, by what they count."""
    modules = sources(root)
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules.values()}
    small = [path for path, count in lines.items() if count < SMALL]
    return {
        "Python files in loc_keras/": len(modules),
        "lines": sum(lines.values()),
        "lines of the median file": round(statistics.median(lines.values())),
        "lines of the longest file": max(lines.values()),
        "modules at the top": len(list((root / PACKAGE).glob("*.py"))),
        f"files under {SMALL} lines, __init__.py aside": sum(
            path.name != "__init__.py" or path.parent == root / PACKAGE for path in small
        ),
        f"__init__.py under {SMALL} lines in folders": sum(
            path.name == "__init__.py" and path.parent != root / PACKAGE for path in small
        ),
        **{
            f"modules loaded by {command}": len(loaded_modules(modules, _work(modules, command)))
            for command in COMMANDS
        },
    }


def _work(modules: Mapping[str, Path], command: str) -> str:
    """The module that holds what a command does: once, that of its command line as well."""
    name = f"{PACKAGE}.commands.{command}"
    return name if name in modules else f"{PACKAGE}.{command}"


def main() -> None:
    """Prints a line for each figure, a column for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("others", nargs="*", type=Path, help="other checkouts to set beside")
    here = Path(__file__).resolve().parents[1]
    columns = [figures(root) for root in (here, *parser.parse_args().others)]
    for name in columns[0]:
        print(f"{name:50}" + "".join(f"{column[name]:>9,}" for column in columns))


if __name__ == "__main__":
    main()

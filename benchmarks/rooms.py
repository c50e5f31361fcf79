"""The package by its rooms: files, lines, imports between rooms, long files and functions.

    python -m benchmarks.rooms
    python -m benchmarks.rooms --package elsewhere/sortednet_cli

Prints Markdown. A room is a folder of the package; modules at its top are the ground.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sortednet_cli"
MOST_LINES, MOST_FILE_LINES = 40, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, default=PACKAGE)
    package: Path = parser.parse_args().package
    files = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in files.items()}
    rooms = {path: room_of(path.relative_to(package)) for path in files}
    print(sizes(files, rooms))
    print()
    print(crossings(trees, rooms, package))
    print()
    long = [f for path, text in files.items() if (f := long_file(path, text, package))]
    print(f"files over {MOST_FILE_LINES} lines: {len(long)}", *long, sep="\n- ")
    print()
    functions = [line for path, tree in trees.items() for line in long_functions(path, tree)]
    print(f"functions over {MOST_LINES} lines: {len(functions)}", *functions, sep="\n- ")


def room_of(path: Path) -> str:
    """The folder of a module; `ground` for those at the top."""
    return path.parent.as_posix() if path.parent.name else "ground"


def sizes(files: dict[Path, str], rooms: dict[Path, str]) -> str:
    counts, lines = Counter(rooms.values()), Counter[str]()
    for path, text in files.items():
        lines[rooms[path]] += text.count("\n")
    rows = [f"| {room} | {count} | {lines[room]:,} |" for room, count in sorted(counts.items())]
    total = f"| all | {len(files)} | {sum(lines.values()):,} |"
    return "\n".join(["| room | files | lines |", "| --- | --- | --- |", *rows, total])


def crossings(trees: dict[Path, ast.Module], rooms: dict[Path, str], package: Path) -> str:
    """How many imports lead from one room to another."""
    names = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): room
        for path, room in rooms.items()
    }
    counts = Counter[tuple[str, str]]()
    for path, tree in trees.items():
        for name in imported(tree):
            room = names.get(name) or names.get(name.rpartition(".")[0])
            if room is not None and room != rooms[path]:
                counts[rooms[path], room] += 1
    rows = [f"| {one} | {other} | {count} |" for (one, other), count in sorted(counts.items())]
    return "\n".join(["| room | imports from | imports |", "| --- | --- | --- |", *rows])


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def long_file(path: Path, text: str, package: Path) -> str | None:
    count = text.count("\n")
    return f"{path.relative_to(package)}: {count}" if count > MOST_FILE_LINES else None


def long_functions(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > MOST_LINES:
                yield f"{path.name}: {node.name}, {count}"


if __name__ == "__main__":
    main()

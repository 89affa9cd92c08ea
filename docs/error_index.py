"""The page of all messages: read from the source, so that it cannot be behind.

Every call that makes a ModicumError or a Fault is found in the syntax tree, its text put together as far as it stands
in the code; `...` stands for what is only known when it happens.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from modicum.cli._ends import CODES
from modicum.core import errors

HOLE = "..."
Handed = Mapping[tuple[str, int], set[str]]
MOST = 8  # texts of one call, where it chooses among several
SKIPPED = "Fault"


class Entry(NamedTuple):
    """One message.  kind: the class.  where: what stands before it, '' if that is a name of the user's."""

    kind: str
    message: str
    fix: str
    where: str
    file: str


def classes() -> dict[str, type[errors.ModicumError]]:
    """Every class of error by name, the base last."""
    known = {c.__name__: c for c in errors.ModicumError.__subclasses__() if c.__module__ == errors.__name__}
    return {**dict(sorted(known.items(), key=lambda item: item[1].exit_code)), "ModicumError": errors.ModicumError}


def exit_codes() -> list[tuple[int, str]]:
    """Exit code and meaning: of the classes, and of what is no error of a class."""
    found: dict[int, list[str]] = {code: [text] for code, text in CODES.items()}
    for name, cls in classes().items():
        if name != "ModicumError":
            found.setdefault(cls.exit_code, []).append((cls.__doc__ or "").partition("\n")[0])
    return [(code, " ".join(texts)) for code, texts in sorted(found.items())]


def entries(home: Path) -> list[Entry]:
    """All messages below a package folder, by text; the same one said in several places is one entry."""
    files = {f.relative_to(home).as_posix(): ast.parse(f.read_text(encoding="utf-8")) for f in home.rglob("*.py")}
    handed = handed_on(files.values())
    found: dict[tuple[str, str], list[Entry]] = {}
    for file, tree in sorted(files.items()):
        for entry in of_module(tree, file, handed):
            found.setdefault((entry.kind, entry.message), []).append(entry)
    out = [
        Entry(*key, once((e.fix for e in same), " Or: "), once(e.where for e in same), once(e.file for e in same))
        for key, same in found.items()
    ]
    return sorted(out, key=lambda e: (e.message.lower().lstrip(". `'"), e))


def handed_on(trees: Iterable[ast.Module]) -> dict[tuple[str, int], set[str]]:
    """Classes of error that are passed to functions, as in `load(path, F, RunError)`: (function, position) -> names."""
    out: dict[tuple[str, int], set[str]] = {}
    for call in (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        for position, arg in enumerate(call.args):
            if isinstance(arg, ast.Name) and arg.id in classes():
                out.setdefault((name, position), set()).add(arg.id)
    return out


def once(parts: Iterable[str], between: str = ", ") -> str:
    """Each once, those that are not empty."""
    return between.join(dict.fromkeys(p for p in parts if p))


def of_module(tree: ast.Module, file: str, handed: Handed = MappingProxyType({})) -> Iterator[Entry]:
    """The messages of one file."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        inside = [f for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
        for name in usual(inside, handed).get(call.func.id, {call.func.id}) & {*classes(), SKIPPED}:
            yield from of_call(call, name, assigned([tree, *inside], call.lineno), file)


def of_call(call: ast.Call, name: str, names: Mapping[str, ast.expr], file: str) -> Iterator[Entry]:
    """The messages of one call of a class."""
    given = {k.arg: k.value for k in call.keywords}
    skipped = name == SKIPPED
    found = call.args[skipped] if len(call.args) > skipped else given["reason" if skipped else "found"]
    fixes = texts(given["fix"], names) if "fix" in given else []
    where = texts(given["where"], names)[0] if "where" in given else ""
    kind, fix = name if fixes else SKIPPED, " ".join(f for f in fixes if f not in ("", HOLE))
    for message in filter(searchable, map(str.strip, texts(found, names))):
        yield Entry(kind, message, fix, "" if HOLE in where else where, file)


def usual(functions: Sequence[ast.FunctionDef], handed: Handed) -> dict[str, set[str]]:
    """Parameters that are classes of error: by their default (`kind: type[ModicumError] = RunError`), or as passed."""
    out: dict[str, set[str]] = {}
    for function in functions:
        args = function.args
        pairs = [*zip(args.args[::-1], args.defaults[::-1]), *zip(args.kwonlyargs, args.kw_defaults)]
        out |= {a.arg: {d.id} for a, d in pairs if isinstance(d, ast.Name)}
        for position, arg in enumerate(args.args):
            out[arg.arg] = out.get(arg.arg, set()) | handed.get((function.name, position), set())
    return {name: kinds for name, kinds in out.items() if kinds}


def searchable(message: str) -> bool:
    """Whether there is anything in it to look for: a text that is all holes is told where its parts are made."""
    return len([w for w in message.replace(HOLE, " ").split() if any(map(str.isalpha, w))]) > 1


def assigned(scopes: Sequence[ast.Module | ast.FunctionDef], line: int) -> dict[str, ast.expr]:
    """What names were last assigned before a line: in the module at its top, in functions anywhere."""
    out: dict[str, ast.expr] = {}
    for scope in scopes:
        nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
        found = [n for n in nodes if isinstance(n, ast.Assign) and n.lineno < line]
        for node in sorted(found, key=lambda n: n.lineno):
            to, value = node.targets[0], node.value
            if isinstance(to, ast.Name):
                out[to.id] = value
            elif isinstance(to, ast.Tuple) and isinstance(value, ast.Tuple):
                out |= {n.id: v for n, v in zip(to.elts, value.elts) if isinstance(n, ast.Name)}
        if isinstance(scope, ast.FunctionDef):
            given = [a.arg for a in (*scope.args.args, *scope.args.kwonlyargs)]
            caught = [n.name for n in ast.walk(scope) if isinstance(n, ast.ExceptHandler)]
            out = {name: value for name, value in out.items() if name not in (*given, *caught)}
    return out


def texts(node: ast.expr, names: Mapping[str, ast.expr], depth: int = 3) -> list[str]:
    """What an expression can read as, with holes; the first few where it chooses."""
    if isinstance(node, ast.Constant):
        return [str(node.value)] if isinstance(node.value, str) else [HOLE]
    if isinstance(node, ast.FormattedValue):
        return [HOLE] if isinstance(node.value, ast.BoolOp) else texts(node.value, names, depth)
    if isinstance(node, ast.JoinedStr):
        return joined([texts(part, names, depth) for part in node.values])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return joined([texts(node.left, names, depth), texts(node.right, names, depth)])
    if isinstance(node, ast.IfExp):
        return unique([*texts(node.body, names, depth), *texts(node.orelse, names, depth)])
    if isinstance(node, ast.BoolOp):
        return unique([t for value in node.values for t in texts(value, names, depth)])
    if isinstance(node, ast.Name) and depth and node.id in names:
        return texts(names[node.id], names, depth - 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "did_you_mean":
        return ["Take the name that the message offers."]
    return [HOLE]


def joined(parts: list[list[str]]) -> list[str]:
    """Every way to put parts together, holes that meet made one."""
    ways = ("".join(way) for way in itertools.islice(itertools.product(*parts), MOST))
    return unique([w.replace(HOLE + HOLE, HOLE).replace("\n", " ") for w in ways])


def unique(found: list[str]) -> list[str]:
    """Each once, in order, the first few."""
    return list(dict.fromkeys(found))[:MOST]


def sections(home: Path) -> list[tuple[str, str, list[tuple[str, ...]]]]:
    """Heading, what it means, and rows (message, what to do, source), a class each; the skipped last."""
    every, out = entries(home), []
    for name, cls in classes().items():
        rows = [row_of(e) for e in every if e.kind == name]
        about = (cls.__doc__ or "").partition("\n")[0]
        about = "Training itself failed." if name == "ModicumError" else about
        out.append((f"{name}: exit code {cls.exit_code}", about, rows))
    about = (
        "Reasons for which one file, row or column is left out while the work goes on. `modicum scan` and the report "
        "list them; `--strict` makes them an error."
    )
    return [*out, ("Skipped files and rows", about, [row_of(e) for e in every if e.kind == SKIPPED])]


def row_of(entry: Entry) -> tuple[str, ...]:
    """Message, what to do, source."""
    where = f"`{entry.where}:` " if entry.where else ""
    fix = entry.fix or ("" if entry.kind == SKIPPED else "The message's next line says.")
    return f"{where}{plain(entry.message)}", plain(fix), f"`{entry.file}`"


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to do, so that it can be searched for as it is printed."""
    parts = text.split("`")
    parts[::2] = ["".join(f"\\{c}" if c in "*_[]<>#" else c for c in part) for part in parts[::2]]
    return "`".join(parts)

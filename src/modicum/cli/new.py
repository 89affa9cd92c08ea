"""Start a new method or trust rule: one file and its test, ready to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from modicum.cli._screen import say
from modicum.cli._tables import free_to_write


def new(
    what: Annotated[str, typer.Argument(help="method or trust.")],
    name: Annotated[str, typer.Argument(help="Its name as in the paper, e.g. free-match.")],
    role: Annotated[str, typer.Option(help="learn, wrap, label, explain, score, select, change, imagine.")] = "learn",
    family: Annotated[str, typer.Option(help="Folder of a method, e.g. semi.")] = "mine",
    into: Annotated[Path, typer.Option(help="A checkout of Modicum, or any other folder (a plug-in).")] = Path(),
) -> None:
    """Start a new method or trust rule: one file and its test, ready to run."""
    from modicum.cli import _templates
    from modicum.core.card import ROLES
    from modicum.core.errors import SettingsError, did_you_mean

    if what not in ("method", "trust"):
        raise SettingsError(
            f"{what!r} is neither a method nor a trust rule", fix="modicum new method NAME, or new trust NAME."
        )
    if role not in ROLES:
        raise SettingsError(f"there is no role {role!r}", where="--role", fix=did_you_mean(role, ROLES))
    _checked(family, "--family")
    free_to_write(into)
    file, test, package = _places(what, _checked(name, "NAME"), family, into)
    words = {"name": name, "Class": _camel(name), "package": package}
    texts = _templates.trust(words) if what == "trust" else _templates.method(role, words)
    _write({file: texts[0], test: texts[1]})
    for path in (file, test):
        say(f"wrote {path}")
    say(f"next: pytest -n 0 {test} && modicum check {'trust/' if what == 'trust' else ''}{name}")


def _checked(name: str, where: str) -> str:
    import keyword

    from modicum.core.errors import SettingsError

    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise SettingsError(
            f"{name!r} is not a name", where=where, fix="Use small letters, digits and '-': free-match."
        )
    return name


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in re.split("[-_]", name))


def _places(what: str, name: str, family: str, into: Path) -> tuple[Path, Path, str]:
    """The file, its test, and the module's name.  In a checkout they go to their rooms, elsewhere side by side."""
    from modicum.core import registry
    from modicum.core.errors import SettingsError

    module = name.replace("-", "_")
    folder = "nn/trust" if what == "trust" else f"methods/{family.replace('-', '_')}"
    inside = into / "src" / "modicum"
    known = registry.parts("nn/trust") if what == "trust" else registry.cards()
    if name.replace("_", "-") in known:
        raise SettingsError(f"there is a {what} {name!r} already", where="NAME", fix="Choose another name.")
    if not inside.is_dir():
        if what == "trust":
            raise SettingsError(
                "trust rules live in nn/trust", where=into, fix="Give a checkout of Modicum: --into DIR."
            )
        return into / f"{module}.py", into / f"test_{module}.py", module
    test = into / "tests" / folder.split("/")[0] / f"test_{'trust_' if what == 'trust' else ''}{module}.py"
    return inside / folder / f"{module}.py", test, f"modicum.{folder.replace('/', '.')}.{module}"


def _write(texts: dict[Path, str]) -> None:
    from modicum.core.errors import SettingsError

    for path in texts:
        if path.exists():
            raise SettingsError(
                "the file exists and is left as it is", where=path, fix="Choose another name or move it away."
            )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

"""Laws of the file: the card is true to its class, the source keeps to its room."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from dataclasses import replace

from modicum.core.card import read_card
from modicum.core.method import Explain, Imagine, Label, Learn, Reshape, Score, Select, Wrap
from modicum.testing.case import Case
from modicum.testing.part import Part
from modicum.testing.results import ALL, PARTS, check, demand

BASES = {
    "learn": Learn, "wrap": Wrap, "label": Label, "explain": Explain, "score": Score, "select": Select,
    "change": Reshape, "imagine": Imagine,
}  # fmt: skip
LONGEST_FILE, LONGEST_FUNCTION = 150, 40
CALLS = {"print", "open", "input", "eval", "exec", "compile", "__import__", "breakpoint"}
IMPORTS = {
    "lightning", "lightning_fabric", "pytorch_lightning", "pickle", "joblib", "shelve", "random", "os", "io", "socket",
    "subprocess", "urllib", "requests", "shutil", "tempfile", "pathlib", "timm", "torchvision", "transformers",
}  # fmt: skip
ROOMS = {"core", "functional", "nn"}
REACHED = {
    "os.environ", "os.getenv", "torch.load", "torch.save", "torch.hub", "torch.manual_seed", "torch.seed",
    "torch.distributed", "torch.set_default_dtype", "torch.set_num_threads", "np.load", "np.save",
    "numpy.load", "sys.stdout",
}  # fmt: skip
DRAWN = ("Generator", "default_rng")
_CITED = re.compile(r"(arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})|doi:10\.\d{4,9}/\S+|isbn:[\dX-]{10,17})")


@check("card", ALL, "The card and the class disagree, or a field is left out: see CONTRIBUTING.md.")
def card(case: Case) -> None:
    """The card in the file is the live one, and its fields agree with the class."""
    read, live = read_card(case.path), sys.modules[case.cls.__module__].CARD
    demand(read is not None, "the card cannot be read without importing the file")
    live, base = replace(live, name=case.card.name, family=case.card.family), BASES[case.card.role]
    demand(read == live, "the card read from the file differs from the live one")
    demand(case.card.name == case.path.stem.replace("_", "-"), f"{case.card.name!r} is not the name of the file")
    demand(issubclass(case.cls, base), f"a {case.card.role} method is a {base.__name__}")
    frozen = "__dataclass_params__" in vars(case.cls) and vars(case.cls)["__dataclass_params__"].frozen
    demand(frozen, "the class is not a frozen dataclass")
    demand(bool(case.card.makes), "the card makes nothing")
    demand(case.card.idea.endswith(".") and len(case.card.idea.split()) >= 4, "`idea` is one sentence with a full stop")
    for cited in case.card.cites:
        demand(bool(_CITED.fullmatch(cited)), f"{cited!r} is no arXiv, DOI or ISBN identifier")
    demand(case.card.role != "score" or bool(case.card.higher), "a score says what a larger value means: `higher`")
    known = {f.name for f in dataclasses.fields(case.cls)}
    for key in case.card.off:
        demand(key in known, f"`off` names a setting {key!r} that there is not")


@check("source", (*ALL, *PARTS), "The method does what another room is for: see the README of methods/.")
def source(case: Case | Part) -> None:
    """The file is short, and calls and imports nothing that belongs to another room."""
    text = case.path.read_text(encoding="utf-8")
    lines = text.count("\n")
    demand(lines <= LONGEST_FILE, f"{lines} lines; at most {LONGEST_FILE}: large parts go to nn/ or functional/")
    for node in ast.walk(ast.parse(text)):
        wrong = _wrong(node)
        demand(not wrong, f"line {getattr(node, 'lineno', 0)}: {wrong}")


def _wrong(node: ast.AST) -> str:
    """What a method may not do; '' where nothing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        return f"calls {node.func.id}"
    if isinstance(node, ast.Attribute):
        name = ast.unparse(node)
        drawn = name.startswith(("np.random.", "numpy.random.")) and name.split(".")[2] not in DRAWN
        return f"uses {name}" if name in REACHED or drawn else ""
    if isinstance(node, ast.Import):
        return next((w for a in node.names if (w := _foreign(a.name))), "")
    if isinstance(node, ast.ImportFrom):
        return "imports a neighbour: share by functional/ or nn/" if node.level else _foreign(node.module or "")
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        length = (node.end_lineno or 0) - node.lineno + 1
        return f"{node.name} has {length} lines; at most {LONGEST_FUNCTION}" if length > LONGEST_FUNCTION else ""
    return "changes a global" if isinstance(node, ast.Global) else ""


def _foreign(module: str) -> str:
    parts = module.split(".")
    if parts[0] in IMPORTS:
        return f"imports {module}"
    if parts[0] == "modicum" and (len(parts) < 2 or parts[1] not in ROOMS):
        return f"imports {module}: a method imports core, functional and nn"
    return ""


@check("documented", ALL, "A setting without a sentence cannot be explained on the method's page.")
def documented(case: Case) -> None:
    """File, class and every setting say what they are."""
    tree = ast.parse(case.path.read_text(encoding="utf-8"))
    words = (ast.get_docstring(tree) or "").split()
    demand(len(words) >= 8, "the file's docstring says too little: idea, equation, letters")
    demand(bool(case.cls.__doc__), "the class has no docstring")
    knobs = case.cls.knobs()
    for field in dataclasses.fields(case.cls):
        if field.name != "inner":
            demand(field.name in knobs, f"{field.name} is not a knob(...)")
            demand(len(knobs[field.name][1].doc.split()) >= 2, f"{field.name} has no sentence")

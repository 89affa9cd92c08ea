"""The Python verbs: the command line's, and free until one is used."""

from __future__ import annotations

import subprocess
import sys

import modicum
from modicum.cli import _app

HEAVY = ("torch", "numpy", "pyarrow", "timm", "sklearn", "lightning_fabric", "PIL", "onnxruntime", "typer")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_verbs_are_those_of_the_command_line() -> None:
    assert set(modicum.__all__) == set(_app.verbs()) - {"doctor", "new"}
    assert set(modicum.__all__) <= set(dir(modicum)) and modicum.__all__ == sorted(modicum.__all__)


def test_every_verb_is_there_and_says_what_it_does() -> None:
    for verb in modicum.__all__:
        assert callable(getattr(modicum, verb)) and modicum._verb(verb).__doc__, verb


def test_importing_loads_nothing_heavy() -> None:
    assert python(f"import sys, modicum; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_plan_and_methods_load_nothing_heavy() -> None:
    code = "import sys, modicum; modicum.plan('class', have='class:some'); n = len(modicum.methods('learn')); "
    assert python(code + f"print(n > 0, [m for m in {HEAVY} if m in sys.modules])") == "True []"


def test_rooms_with_a_verbs_name_are_both() -> None:
    """`modicum.report` is a package and a verb, whichever was met first."""
    code = "import modicum; print(callable(modicum.report)); import modicum.report.text as t; "
    code += "print(callable(modicum.report), modicum.report.text is t, len(modicum.methods('wrap')) > 0)"
    assert python(code).split() == ["True", "True", "True", "True"]
    code = "import modicum.methods.average.ema; print(*modicum.methods(role='wrap'))"
    assert "ema" in python(code).split()


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(modicum, "fitt")


def test_predicting_does_not_import_torch() -> None:
    assert python("import sys, modicum; modicum.predict, modicum.scan; print('torch' in sys.modules)") == "False"

"""The registry is the folder: what is listed is what lies there, and listing imports no method and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modicum.core import registry
from modicum.core.card import ROLES
from modicum.core.errors import SettingsError

HEAVY = ("torch", "numpy", "pyarrow", "timm", "sklearn", "lightning_fabric", "PIL", "rich", "typer")


def test_every_file_is_a_method_and_every_method_a_file() -> None:
    files = {p.stem.replace("_", "-") for p in (registry.HOME / "methods").glob("*/[!_]*.py")}
    assert files and files <= set(registry.cards())
    for name, card in registry.cards().items():
        assert card.name == name and card.role in ROLES and registry.path(name).is_file()


@pytest.mark.parametrize(
    "module", ["kinds", "card", "settings", "registry", "search", "plan", "errors", "recipe", "program"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, modicum.core.{module} as m\nfor heavy in {HEAVY}: assert heavy not in sys.modules, heavy\n"
    if module == "registry":
        code += "m.cards()\nassert not [k for k in sys.modules if k.startswith('modicum.methods')]\n"
        code += f"for heavy in {HEAVY}: assert heavy not in sys.modules, heavy\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    known = next(iter(registry.cards()))
    with pytest.raises(SettingsError) as error:
        registry.card(known + "x")
    assert repr(known) in str(error.value)


def test_roles_split_the_list() -> None:
    by_role = [set(registry.cards(role)) for role in ROLES]
    assert set().union(*by_role) == set(registry.cards()) and sum(map(len, by_role)) == len(registry.cards())


def test_load_gives_the_class_with_its_card_and_strict_settings() -> None:
    name = next(iter(registry.cards("learn")))
    assert registry.load(name).card is registry.card(name)
    with pytest.raises(SettingsError, match="unknown setting"):
        registry.make(name, {"no_such_setting": 1})


def test_a_name_is_a_method_a_part_or_both() -> None:
    assert registry.named("fixed") == registry.named("trust/fixed") == ["trust/fixed"]
    assert registry.named("logit-adjustment") == ["logit-adjustment", "objective/logit-adjustment"]
    assert registry.named("fixmatch") == ["fixmatch"]
    assert registry.named("fix") == registry.named("objective/fixed") == []
    files = {f"{kind}/{p.stem}" for kind, at in registry.PARTS.items() for p in (registry.HOME / at).glob("[!_]*.py")}
    assert {p.replace("-", "_") for p in registry.part_names()} == files


def test_a_part_is_told_from_a_method() -> None:
    with pytest.raises(SettingsError, match=r"there is no method 'ldam'[\s\S]*--set objective=ldam"):
        registry.load("ldam")
    assert registry.about_part("trust/fixed").endswith("FixMatch (Sohn et al., 2020).")
    assert all("\n" not in registry.about_part(p) and registry.about_part(p) for p in registry.part_names())

"""Edits of net.json: each is taken with exactly the arguments that it would write itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.models.doors import make
from modicum.models.files import load, save
from modicum.nn.cosine import cosine_head
from modicum.nn.detect import detecting
from modicum.nn.peaks import peaked
from modicum.nn.probe import neighbours_head, probe_head
from modicum.nn.regions import regional
from modicum.nn.segment import segmenting
from modicum.nn.stages import patched, placed

SIZE = {"classes": 3, "channels": 1, "side": 32}
NETS = {
    "cosine-head": lambda net: cosine_head(net, 9.0),
    "probe-head": lambda net: probe_head(net, "l2"),
    "neighbours-head": lambda net: neighbours_head(net, 4, 2, "cosine", "uniform", 0.5),
    "patches": lambda net: patched(net, (2,)),
    "places": placed,
    "peaks": peaked,
    "decoder": lambda net: segmenting(net, 16),
    "detector": lambda net: detecting(net, 8, 1),
    "regions": lambda net: regional(net, 1, False, 8, 4, 20),
}


def built(name: str) -> Net:
    torch.manual_seed(0)
    net: Net = NETS[name](make("tiny-conv:width=4", **SIZE))
    return net


@pytest.mark.parametrize("name", NETS)
def test_what_an_edit_writes_is_read_again(name: str, tmp_path: Path) -> None:
    net = built(name)
    save(net, tmp_path, classes=["a", "b", "c"])
    again, meta = load(tmp_path)
    assert [edit["edit"] for edit in meta["edits"]] == [name] and again.spec["edits"] == net.spec["edits"]
    assert again.state_dict().keys() == net.state_dict().keys()


def changed(name: str) -> list[dict[str, Any]]:
    """The edit with an unknown key, and with each of its values in other forms."""
    (edit,) = built(name).spec["edits"]
    out = [{**edit, "colour": 3}]
    for key, value in edit.items():
        if key != "edit":
            forms = [str(value), [value], None]
            if isinstance(value, int) and not isinstance(value, bool):
                forms.append(value + 0.7)
            out += [{**edit, key: form} for form in forms if form != value]
            out.append({k: v for k, v in edit.items() if k != key})
    return out


@pytest.mark.parametrize("name", NETS)
def test_an_edit_of_other_arguments_is_refused(name: str, tmp_path: Path) -> None:
    save(built(name), tmp_path, classes=["a", "b", "c"])
    page = json.loads((tmp_path / "net.json").read_text(encoding="utf-8"))
    cases = changed(name)
    assert len(cases) > 3 or name in ("places", "peaks")
    for edit in cases:
        (tmp_path / "net.json").write_text(json.dumps({**page, "edits": [edit]}), encoding="utf-8")
        with pytest.raises(ModelError):
            load(tmp_path)
            pytest.fail(f"{edit} was taken")

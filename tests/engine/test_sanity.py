"""Networks whose top layers are drawn anew: which layers those are, and which maps change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import modicum
from modicum.engine.fit import fit
from modicum.engine.sanity import checked, redrawn, warned
from modicum.engine.table import Finished
from modicum.models.doors import make
from modicum.nn.capture import explain

pytestmark = pytest.mark.xdist_group("sanity")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, torch.Tensor]:
    """A network that was trained, and 32 images that it was not trained on."""
    patch, home = pytest.MonkeyPatch(), tmp_path_factory.mktemp("sanity")
    patch.setenv("MODICUM_CACHE", str(home / "cache"))
    quick = {"labels": 10, "twins": "none", "judge": "none", "export": False, "precision": "32", "batch": 32}
    done = Finished.open(fit("sample:digits", home / "run", steps=150, **quick).folder)
    pixels, rows = done.pixels(), np.flatnonzero(done.data.of_split("test"))[:32]
    x = done.batch([pixels.image(int(r)) for r in rows])
    patch.undo()
    return done, x


def test_the_last_stage_and_the_head_are_drawn_anew_and_nothing_else() -> None:
    torch.manual_seed(0)
    net = make("tiny-res", classes=4, channels=3, side=32).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fresh = redrawn(net, torch.rand(4, 3, 32, 32))
    changed = {k.rsplit(".", 1)[0] for k, v in fresh.state_dict().items() if not torch.equal(v, before[k])}
    assert {k for k in changed if k.startswith(("stem", "blocks.0", "blocks.1"))} == set()
    assert {"head", "norm", "blocks.2.conv1"} <= changed or {"head"} < changed
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()), "the network itself is left alone"
    weight, old = fresh.head.weight, before["head.weight"]
    assert abs(float(weight.square().mean() / old.square().mean()) - 1) < 0.5 and not fresh.training


def test_the_same_seed_draws_the_same_weights() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2)), torch.rand(2, 1, 8, 8)
    a, b, c = (redrawn(net, x, seed) for seed in (0, 0, 1))
    assert torch.equal(a[2].weight, b[2].weight) and not torch.equal(a[2].weight, c[2].weight)


def test_of_a_transformer_the_last_quarter_is_drawn_anew() -> None:
    import timm

    net = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=3, img_size=64, depth=8).eval()
    fresh = redrawn(net, torch.rand(2, 3, 64, 64))
    now, was = fresh.state_dict(), net.state_dict()
    changed = {int(k.split(".")[1]) for k in now if k.startswith("blocks.") and not torch.equal(now[k], was[k])}
    assert changed and min(changed) >= 4 and 7 in changed and not torch.equal(now["head.weight"], was["head.weight"])


def test_cam_passes_and_maps_of_the_picture_fail(digits: tuple[Finished, torch.Tensor]) -> None:
    done, x = digits
    usual = checked(done.net, x, explain(done.net, x), None)
    (good,) = usual.values()
    assert good.passed and good.correlation < 0.4 and warned(usual) == []
    early = checked(done.net, x, explain(done.net, x, None, "eigen-cam", "stages.0"), None)
    (blind,) = early.values()
    assert not blind.passed and blind.correlation == pytest.approx(1), "no layer below it was drawn anew"
    assert warned(early)[0].startswith("eigen-cam at stages.0: drawing the top layers anew hardly changes the maps")
    guided = checked(done.net, x, explain(done.net, x, None, "guided-grad-cam"), None)
    assert not next(iter(guided.values())).passed


def test_explain_warns_where_it_is_asked_to(digits: tuple[Finished, torch.Tensor]) -> None:
    done, x = digits
    wish = {"methods": "eigen-cam", "layers": "stages.0"}
    assert modicum.explain(done.net, x, **wish).warnings == []
    (said,) = modicum.explain(done.net, x, **wish, sanity=True).warnings
    assert "they show the picture" in said
    assert modicum.explain(str(done.run.folder), x, sanity=True, tta=("flip",)).warnings == []
    score = modicum.explain(done.net, x[:4], lambda out: out.logits[:, 0], sanity=True)
    assert score.targets.eq(-1).all(), "targets may be functions"


def test_maps_that_are_not_finite_are_left_out(digits: tuple[Finished, torch.Tensor]) -> None:
    done, x = digits
    found = explain(done.net, x)
    ((key, maps),) = found.maps.items()
    maps[0] = torch.nan
    assert len(checked(done.net, x, found, None)[key].each) == len(x) - 1
    maps[:] = torch.nan
    assert checked(done.net, x, found, None) == {}


def test_a_run_keeps_what_the_check_said(digits: tuple[Finished, torch.Tensor]) -> None:
    done, _ = digits
    page = done.run.read("maps.json")
    with np.load(Path(done.run / "maps.npz")) as kept:
        assert len(page["sentences"]) == len(kept["rows"])
    assert (page["method"], page["layer"], page["sanity"]["passed"]) == ("cam", "spatial", True)
    text = (done.run / "report.html").read_text(encoding="utf-8")
    assert page["sanity"]["said"] in text and "half of its evidence lies in" in text

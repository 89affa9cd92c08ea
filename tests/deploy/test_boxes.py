"""A detector's ONNX file: scores and boxes as the net's, and what is written of image files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

from modicum.core.batch import Boxes as Packed
from modicum.core.errors import DataError, ModelError
from modicum.core.net import Net, Out
from modicum.data.read import read
from modicum.deploy import export as exporter
from modicum.deploy.boxes import Boxes, drawn, find_boxes, root_of, write_boxes
from modicum.deploy.export import Gaps, export
from modicum.deploy.predict import OnnxModel
from modicum.deploy.seal import BLANK, seal
from modicum.deploy.suppress import Located
from modicum.engine.dense import boxes_of
from modicum.nn.detect import detecting

from .conftest import CLASSES, Exported, digits, warm

META = {"classes": CLASSES, "side": 16, "channels": 1, "temperature": None, "tells": "boxes"}


@pytest.fixture(scope="module")
def net() -> Net:
    return detecting(warm("tiny-conv:width=8", digits(16, 64)), width=16, depth=1).eval()


@pytest.fixture(scope="module")
def file(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "model.onnx"
    facts = export(net, META, digits(16, 100), path, runs=5)
    assert facts["largest_difference"] <= 1e-4 and facts["largest_shift"] <= 0.01 and facts["other_boxes"] <= 1
    return path


@pytest.mark.parametrize("size", [1, 3])
def test_the_files_scores_and_boxes_are_the_nets(net: Net, file: Path, size: int) -> None:
    images = digits(16, size)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    logits, probs, xyxy, score = session.run(["logits", "probs", "xyxy", "score"], {"images": images})
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        said, out = net.dense(x), net(x)  # type: ignore[operator]
    assert np.abs(score - said.score.numpy()).max() < 1e-4 and np.abs(xyxy - said.xyxy.numpy()).max() < 1e-2
    assert np.abs(logits - out.logits.numpy()).max() < 1e-4 and np.allclose(probs, out.logits.sigmoid(), atol=1e-5)


def test_boxes_are_those_of_the_net_in_pixels_of_the_image(net: Net, file: Path) -> None:
    luck, model = np.random.default_rng(0), OnnxModel(file)
    images = [luck.integers(0, 256, (h, w, 1), np.uint8) for h, w in ((16, 16), (40, 23), (5, 9), (1, 1))]
    assert model.finds and model.many and model.tells == "boxes" and not model.segments
    for image, one, other in zip(images, model.boxes(images), boxes_of(net, images, batch=3), strict=True):
        height, width = image.shape[:2]
        assert len(one.cls) == len(other.cls) > 0 and (one.cls == other.cls).mean() > 0.9
        assert np.abs(np.sort(one.score) - np.sort(other.score)).max() < 1e-4
        assert (one.xyxy >= 0).all() and (one.xyxy <= [width, height, width, height]).all()
        same = one.cls == other.cls
        assert np.median(np.abs(one.xyxy - other.xyxy)[same]) < 1e-2


def test_the_file_says_how_boxes_are_made_of_scores(file: Path) -> None:
    props = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert props["tells"] == "boxes" and "above 0.05" in props["boxes"] and "above 0.6; 100" in props["boxes"]


def test_other_networks_find_no_boxes(exported: Exported, tmp_path: Path) -> None:
    for refused in (
        lambda: next(OnnxModel(exported.path).boxes(exported.images[:1])),
        lambda: find_boxes(exported.path, []),
        lambda: write_boxes(exported.path, [], tmp_path / "out"),
    ):
        with pytest.raises(ModelError, match="finds no boxes: it tells class"):
            refused()
    assert not list(tmp_path.iterdir())


class Proposing(Net):
    """Boxes that come from no dense head."""

    def forward(self, x: torch.Tensor) -> Out:
        pooled, none = x.mean((2, 3)), torch.empty(0, dtype=torch.int64)
        return Out(pooled, pooled, boxes=Packed(x.new_empty(0, 4), none, none.to(torch.int8), none, x.new_empty(0)))


def test_boxes_of_other_kinds_are_refused_with_a_way_out(tmp_path: Path) -> None:
    meta = META | {"classes": ("a",)}
    with pytest.raises(ModelError, match="dense head") as caught:
        export(Proposing(1), meta, digits(16, 4), tmp_path / "x.onnx")
    assert "--want boxes" in caught.value.fix and not list(tmp_path.iterdir())


def test_files_that_differ_are_not_written(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Gaps(shift=0.02, boxes=2).wrong(100)
    assert "boxes by up to 0.02 pixels (allowed 0.01)" in words and "which boxes stay in 2 of 100" in words
    assert not Gaps(1e-5, 0, 0.001, 1).wrong(100) and "nan pixels" in Gaps(shift=float("nan")).wrong(9)
    monkeypatch.setattr(exporter, "SHIFT", -1.0)
    with pytest.raises(ModelError, match="boxes by up to"):
        export(net, META, digits(16, 4), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


# -- hostile files -----------------------------------------------------------------------------------------------------


Change = Callable[[onnx.ModelProto], None]


def forged(file: Path, place: Path, change: Change) -> Path:
    """A copy that was changed, and sealed again."""
    model = onnx.load(file)
    change(model)
    for prop in model.metadata_props:
        if prop.key == "sha256":
            prop.value = BLANK
    place.write_bytes(seal(model.SerializeToString()))
    return place


def after(name: str, operator: str, *values: np.ndarray, last: str = "") -> Change:
    """One operator more before an output.  last: the name of an input that is computed."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = [f"{name} before" if o == name else o for o in node.output]
        names = [f"{name} {i}" for i in range(len(values))]
        model.graph.initializer.extend(map(numpy_helper.from_array, values, names))
        model.graph.node.append(helper.make_node(operator, [f"{name} before", *names, *filter(None, [last])], [name]))

    return change


def spoilt(name: str, number: float) -> Change:
    return after(name, "Mul", np.array(number, np.float32))


def longer(name: str) -> Change:
    """A hundred times as many positions."""
    return after(name, "Tile", np.array([1, 100, 1]))


def shorter_than_said(model: onnx.ModelProto) -> None:
    """One position for one image, which nobody can tell before it is run."""
    model.graph.initializer.extend(map(numpy_helper.from_array, map(np.array, ([0], [1], [1])), ("nil", "axis", "one")))
    model.graph.node.append(helper.make_node("Shape", ["images"], ["count"], start=0, end=1))
    after("xyxy", "Slice", np.array([0]), last="count")(model)
    model.graph.node[-1].input.append("axis")


@pytest.mark.parametrize("name", ["xyxy", "score"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_a_fault_of_each_image(file: Path, tmp_path: Path, name: str, number: float) -> None:
    path = forged(file, tmp_path / "m.onnx", spoilt(name, number))
    Image.fromarray(digits(16, 1)[0, ..., 0]).save(tmp_path / "a.png")
    assert [b.fault for b in find_boxes(path, [tmp_path / "a.png"])] == ["the network's answer is not a number"]


def test_absurd_boxes_are_cut_to_the_image(file: Path, tmp_path: Path) -> None:
    model = OnnxModel(forged(file, tmp_path / "m.onnx", spoilt("xyxy", 1e30)))
    for found in model.boxes([np.zeros((9, 7, 1), np.uint8)]):
        assert np.isfinite(found.xyxy).all() and (found.xyxy <= [7, 9, 7, 9]).all() and (found.xyxy >= 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([after("xyxy", "Slice", *map(np.array, ([0], [3], [1])))], "not those it names"),
        ([longer("xyxy"), longer("score")], "not those it names"),
        ([shorter_than_said], "its xyxy have another shape than it says"),
    ],
)
def test_other_shapes_are_refused(file: Path, tmp_path: Path, change: list[Change], words: str) -> None:
    path = forged(file, tmp_path / "m.onnx", lambda model: [c(model) for c in change] and None)
    with pytest.raises(ModelError, match=words):
        next(OnnxModel(path).boxes([np.zeros((9, 7, 1), np.uint8)]))


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    home = tmp_path / "photos"
    (home / "b").mkdir(parents=True)
    for name, image in zip(("a.png", "b/A.png", "b/c.png"), digits(16, 3), strict=True):
        Image.fromarray(np.kron(image[..., 0], np.ones((2, 3), np.uint8))).save(home / name)
    Image.new("RGB", (1, 1)).save(home / "one.png")
    (home / "broken.png").write_bytes(b"\x89PNG no")
    return home


def test_fit_reads_back_what_was_written(file: Path, photos: Path) -> None:
    told: list[tuple[int, int, str]] = []
    good = write_boxes(
        file, [photos], photos / "annotations", sure=0.15, told=lambda n, total, b: told.append((n, total, b.fault))
    )
    assert good == 4 and [t[:2] for t in told] == [(n, 5) for n in range(1, 6)] and sum(bool(t[2]) for t in told) == 1
    page = json.loads((photos / "annotations" / "instances.json").read_bytes())
    results = json.loads((photos / "annotations" / "results.json").read_bytes())
    assert [i["file_name"] for i in page["images"]] == ["a.png", "b/A.png", "b/c.png", "one.png"]
    assert [c["name"] for c in page["categories"]] == list(CLASSES)
    assert len(results) > len(page["annotations"]) > 0 and min(a["score"] for a in page["annotations"]) >= 0.15
    ids, sure = [a["id"] for a in page["annotations"]], [r for r in results if r["score"] >= 0.15]
    assert ids == [*range(1, len(ids) + 1)] and [a["bbox"] for a in page["annotations"]] == [r["bbox"] for r in sure]
    found = read(photos)
    data, whole = found.data, {b.id: b for b in find_boxes(file, [photos])}
    assert data.reader == "coco" and sorted(data.ids) == ["a.png", "b/A.png", "b/c.png", "broken.png", "one.png"]
    assert not [f for f in found.faults if f.where != "broken.png"]
    table = data.of_kind("boxes")
    for row, name in enumerate(data.ids[:3]):
        mine = table.filter(np.asarray(table["row"]) == row)
        corners = np.stack([mine[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1)
        own = whole[str(photos / name)].found
        assert np.abs(corners - own.xyxy[own.score >= 0.15]).max() <= 0.011 and len(corners)
        assert [data.names[c] for c in mine["class"].to_pylist()] == [CLASSES[c] for c in own.cls[own.score >= 0.15]]
    names = sorted(p.name for p in (photos / "annotations" / "pictures").iterdir())
    assert names == ["A-1.jpg", "a.jpg", "c.jpg", "one.jpg"]
    with Image.open(photos / "annotations" / "pictures" / "a.jpg") as picture:
        assert picture.size == (48 * 5, 32 * 5)


def test_again_does_not_look_at_its_own_pictures(file: Path, photos: Path) -> None:
    counts = [write_boxes(file, [photos], photos / "annotations") for _ in range(2)]
    assert counts == [4, 4] and not list(photos.rglob(".*"))


def test_ctrl_c_leaves_whole_files(file: Path, photos: Path) -> None:
    def stop(done: int, total: int, boxes: Boxes) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_boxes(file, [photos], out := photos / "annotations", told=stop)
    assert [p.name for p in out.iterdir()] == ["pictures"] and not list(out.rglob("*.tmp"))
    for picture in (out / "pictures").iterdir():
        Image.open(picture).load()


def test_no_image_writes_nothing(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="no image could be read"):
        write_boxes(file, [tmp_path / "x.png"], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_names_begin_where_the_folder_lies_or_at_what_images_share(tmp_path: Path) -> None:
    files = [tmp_path / "p" / "a.png", tmp_path / "p" / "q" / "b.png"]
    assert root_of(files, tmp_path / "p" / "annotations") == tmp_path / "p"
    assert root_of(files, tmp_path / "annotations") == tmp_path
    assert root_of(files, tmp_path / "other" / "annotations") == tmp_path / "p"


def test_boxes_are_drawn_where_they_are_in_the_colour_of_the_class() -> None:
    found = Located(np.array([[10, 20, 60, 80], [0, 0, 300, 5]], np.float32), np.array([1, 0]), np.array([0.9, 0.2]))
    out = np.asarray(drawn(Boxes("x", np.full((200, 300, 3), 128, np.uint8), found, ("a", "b")), 0.5))
    assert out.shape == (200, 300, 3) and out[50, 10].tolist() == out[79, 30].tolist() == [86, 180, 233]
    assert (out[:5] == 128).all() and (out[30:70, 20:50] == 128).all(), "one box is not sure enough; inside is free"
    large = np.zeros((3000, 4000, 3), np.uint8)
    assert drawn(Boxes("x", large, found, ("a", "b"))).size == (1600, 1200)


def test_nothing_needs_torch(file: Path, photos: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modicum.deploy.boxes import write_boxes; "
        "write_boxes(sys.argv[1], [sys.argv[2]], Path(sys.argv[3])); "
        "bad = {'torch', 'torchvision', 'timm', 'onnx'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(file), str(photos), str(photos / "labels")], check=True, timeout=60)
    assert (photos / "labels" / "results.json").is_file()

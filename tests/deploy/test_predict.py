"""Prediction from the file alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from modicum.core.errors import DataError, ModelError
from modicum.data.images import square
from modicum.deploy.predict import OnnxModel, model_of, predict

from .conftest import CLASSES, Exported


def test_paths_arrays_and_batches_agree(exported: Exported, tmp_path: Path) -> None:
    model = OnnxModel(exported.path)
    assert (model.classes, model.side, model.channels, model.temperature) == (CLASSES, 16, 1, 2.0)
    paths = []
    for i, image in enumerate(exported.images[:7]):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    probs = model.run(exported.images[:7])[1]
    for found in (list(model.predict(paths, batch=3)), list(model.predict(exported.images[:7], batch=64))):
        assert [p.name for p in found] == [CLASSES[i] for i in probs.argmax(1)]
        assert np.allclose([p.confidence for p in found], probs.max(1)) and not any(p.fault for p in found)
        assert np.allclose([p.probs for p in found], probs, atol=1e-6)
    assert [p.id for p in model.predict(paths)] == [str(p) for p in paths]


def test_other_sizes_colours_and_depths_are_fitted(exported: Exported) -> None:
    model, rng = OnnxModel(exported.path), np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert np.array_equal(model.fit(colour), square(colour, 16, 1))
    grey = exported.images[0]
    assert np.array_equal(model.fit(grey[..., 0]), grey)
    assert np.array_equal(model.fit(grey.astype(np.uint16) * 257), grey)
    assert np.array_equal(model.fit(np.full((16, 16, 1), 65535, np.uint16)), np.full((16, 16, 1), 255))


def test_what_cannot_be_read_is_a_fault_in_its_place(exported: Exported, tmp_path: Path) -> None:
    good, bad, gone = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "gone.png"
    Image.fromarray(exported.images[0][..., 0]).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    items = [bad, good, gone, np.zeros((3, 3), np.float32), good]
    found = list(OnnxModel(exported.path).predict(items, batch=2))
    assert [bool(p.fault) for p in found] == [True, False, True, True, False]
    assert found[2].id == str(gone) and found[2].name == "" and np.isnan(found[2].confidence)
    assert found[1].probs.tolist() == pytest.approx(found[4].probs.tolist())
    assert list(OnnxModel(exported.path).predict([])) == []


def test_folders_are_walked_and_their_faults_kept(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("b/1.png", "a.png"):
        Image.fromarray(exported.images[0][..., 0]).save(tmp_path / "in" / name)
    (tmp_path / "in" / "c.gif").write_bytes(b"GIF89a")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    found = list(predict(exported.path, [tmp_path / "in", tmp_path / "in" / "a.png"]))
    names = [Path(p.id).relative_to(tmp_path / "in").as_posix() for p in found]
    assert names == ["a.png", "b/1.png", "c.gif", "a.png"] and [bool(p.fault) for p in found] == [0, 0, 1, 0]
    with pytest.raises(ModelError):
        predict(tmp_path / "none.onnx", [])


def test_an_array_that_is_no_image(exported: Exported) -> None:
    with pytest.raises(DataError, match="not an image"):
        OnnxModel(exported.path).fit(np.zeros((4, 4, 2), np.uint8))


@pytest.mark.parametrize("content", [b"", b"no", b"cut", b"half"])
def test_broken_files_are_model_errors(content: bytes, exported: Exported, tmp_path: Path) -> None:
    whole = exported.path.read_bytes()
    path = tmp_path / "m.onnx"
    path.write_bytes({b"cut": whole[:-1000], b"half": whole[: len(whole) // 2]}.get(content, content))
    with pytest.raises(ModelError) as caught:
        OnnxModel(path)
    assert len(str(caught.value)) < 400


def test_a_run_that_could_not_be_exported_says_why(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"refused": "an operator is not known", "fix": "use another"}')
    with pytest.raises(ModelError, match="not exported: an operator is not known") as caught:
        model_of(tmp_path)
    assert caught.value.fix == "use another"


def test_foreign_files_are_model_errors(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not an ONNX file that Modicum exported"):
        OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no such file"):
        OnnxModel(tmp_path / "none.onnx")


def test_torch_is_never_imported(exported: Exported, tmp_path: Path) -> None:
    Image.fromarray(exported.images[0][..., 0]).save(tmp_path / "0.png")
    code = (
        "import sys; from pathlib import Path; from modicum.deploy.predict import OnnxModel; "
        "from modicum.deploy.predictions import write; m = OnnxModel(sys.argv[1]); "
        "write(m.predict([sys.argv[2]]), Path(sys.argv[3])); "
        "bad = {'torch', 'timm', 'onnx', 'sklearn', 'torchvision'} & set(sys.modules); assert not bad, bad"
    )
    files = [str(exported.path), str(tmp_path / "0.png"), str(tmp_path / "out.csv")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, timeout=60)
    assert (tmp_path / "out.csv").read_text().count("\n") == 2

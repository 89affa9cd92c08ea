"""Exported files that are damaged, and forged ones: sealed anew after something hostile was put in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from modicum.cli import main
from modicum.core.errors import ModelError
from modicum.deploy.predict import OnnxModel, predict
from modicum.deploy.seal import BLANK, opened, seal

from .conftest import Exported

Change = Callable[[onnx.ModelProto], object]


def forged(path: Path, change: Change) -> bytes:
    """The exported file, changed by somebody who knows how it is sealed."""
    model = onnx.load(path)
    change(model)
    for prop in model.metadata_props:
        if prop.key == "sha256":
            prop.value = BLANK
    return seal(model.SerializeToString())


def prop(name: str, value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        next(p for p in model.metadata_props if p.key == name).value = value

    return change


def first(model: onnx.ModelProto) -> TensorProto:
    """A tensor of weights."""
    return max(model.graph.initializer, key=lambda t: len(t.raw_data))


def external(place: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = first(model)
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)

    return change


def hidden(model: onnx.ModelProto) -> None:
    """Data outside the file, named by a constant inside a node."""
    tensor = TensorProto(name="c", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["out"], body=body))


def dims(*sizes: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        first(model).dims[:] = sizes

    return change


def sparse(model: onnx.ModelProto) -> None:
    values, at = helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [2**40])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [2**41]))


FORGED: dict[str, Change] = {
    "data outside": external("../../../etc/passwd"),
    "data outside, absolute": external("/etc/passwd"),
    "data beside": external("weights.bin"),
    "data of a constant outside": hidden,
    "size 2^40": dims(2**40),
    "size 2^31 twice": dims(2**31, 2**31),
    "negative size": dims(-1),
    "no size": dims(),
    "a text as weights": lambda m: setattr(first(m), "data_type", TensorProto.STRING),
    "weights twice": lambda m: first(m).float_data.append(1.0),
    "sparse weights": sparse,
    "other operators": lambda m: m.graph.node.append(helper.make_node("Run", [], ["z"], domain="com.microsoft")),
    "a set of other operators": lambda m: m.opset_import.add(domain="evil", version=1),
    "a loop": loop,
    "a function": lambda m: m.functions.add(name="f", domain="local"),
    "training": lambda m: m.training_info.add(),
    "side 10^9": prop("side", "1000000000"),
    "side -1": prop("side", "-1"),
    "side of another size": prop("side", "17"),
    "side a text": prop("side", "wide"),
    "channels 10^6": prop("channels", "1000000"),
    "shorter 10^9": prop("shorter", "1000000000"),
    "shorter -1": prop("shorter", "-1"),
    "dtype": prop("dtype", "object"),
    "dtype of another size": prop("dtype", "uint16"),
    "classes of another length": prop("classes", '["a"]'),
    "classes no list": prop("classes", '"abcdefghij"'),
    "classes of numbers": prop("classes", json.dumps(list(range(10)))),
    "classes nested": prop("classes", "[" * 10_000),
    "temperature NaN": prop("temperature", "NaN"),
    "temperature 1e309": prop("temperature", "1e309"),
    "no classes": lambda m: m.metadata_props.remove(next(p for p in m.metadata_props if p.key == "classes")),
    "no graph": lambda m: m.ClearField("graph"),
    "another input": lambda m: setattr(m.graph.input[0], "name", "other"),
    "an output more": lambda m: m.graph.output.append(m.graph.output[0]),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_refused(case: str, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(forged(exported.path, FORGED[case]))
    with pytest.raises(ModelError) as caught:
        OnnxModel(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500


def test_forging_without_a_change_is_accepted(exported: Exported, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    path = tmp_path / "m.onnx"
    path.write_bytes(forged(exported.path, lambda m: None))
    assert OnnxModel(path).classes == exported.meta["classes"]


def test_a_newer_format_is_said(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(forged(exported.path, prop("format", "2")))
    with pytest.raises(ModelError, match="newer Modicum"):
        OnnxModel(path)


def test_every_cut_is_noticed(exported: Exported, tmp_path: Path) -> None:
    whole, path = exported.path.read_bytes(), tmp_path / "m.onnx"
    for length in (0, 1, 2, 10, len(whole) // 4, len(whole) // 2, len(whole) - 65, len(whole) - 64, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            OnnxModel(path)
    for more in (whole + b"\0", whole + whole, b"\0" + whole):
        path.write_bytes(more)
        with pytest.raises(ModelError):
            OnnxModel(path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_noticed(exported: Exported, data: st.DataObject) -> None:
    content = bytearray(exported.path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ModelError):
        opened(bytes(content), "m.onnx")


def altered(content: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    """A sealed file with some bytes replaced and its end cut off, sealed again where it still can be."""
    blank = bytearray(content)
    place = content.index(b"\n\x06sha256\x12@") + 10
    blank[place : place + 64] = BLANK.encode()
    for at, value in changes:
        blank[at % len(blank)] = value
    new = bytes(blank[: len(blank) - cut % len(blank)] if cut else blank)
    try:
        return seal(new)
    except ValueError:  # the place of the seal is gone
        return new


CHANGES = st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), max_size=8)


def only_model_errors(content: bytes) -> None:
    try:
        assert isinstance(opened(content, "m.onnx"), dict)
    except ModelError as error:
        assert len(str(error)) < 500


@settings(max_examples=100, deadline=None)
@given(CHANGES, st.integers(0, 2**32))
def test_the_walk_over_any_bytes_ends_in_a_model_error_or_not_at_all(
    exported: Exported, changes: list[tuple[int, int]], cut: int
) -> None:
    only_model_errors(altered(exported.path.read_bytes(), changes, cut))


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES, st.integers(0, 2**32) | st.just(0), st.binary(max_size=200))
@example([], 0, b"\n\x06sha256\x12@" + b"0" * 64)
def test_the_walk_over_many_bytes(exported: Exported, changes: list[tuple[int, int]], cut: int, raw: bytes) -> None:
    only_model_errors(altered(exported.path.read_bytes(), changes, cut))
    only_model_errors(altered(raw + b"\n\x06sha256\x12@" + b"0" * 64 + raw, [], 0))


@pytest.mark.slow
def test_forged_bytes_do_not_crash_the_library_behind(exported: Exported, tmp_path: Path) -> None:
    """2,000 files that pass the seal, opened and run in another process: a crash there would end it with a signal."""
    code = """
import random, sys
from pathlib import Path
import numpy as np
from modicum.core.errors import ModelError
from modicum.deploy.predict import OnnxModel
from tests.deploy.test_seal import altered
source, path, rng, ran = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(0), 0
heads = [i for i in range(len(source)) if i < 3000 or i > len(source) - 6000]
for k in range(2000):
    changes = [(rng.choice(heads), rng.randrange(256)) for _ in range(rng.randint(1, 3))]
    path.write_bytes(altered(source, changes, 0))
    try:
        list(OnnxModel(path).predict([np.zeros((16, 16, 1), np.uint8)]))
        ran += 1
    except ModelError:
        pass
print(ran)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported.path), str(tmp_path / "m.onnx")],
        capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert 0 < int(done.stdout) < 2000


def test_memory_stays_small(exported: Exported, tmp_path: Path) -> None:
    """Sizes of terabytes, in a process that may take 300 MB more than it has."""
    paths = []
    for case in ("size 2^40", "size 2^31 twice", "side 10^9", "shorter 10^9", "classes nested"):
        path = tmp_path / f"{len(paths)}.onnx"
        path.write_bytes(forged(exported.path, FORGED[case]))
        paths.append(str(path))
    code = """
import resource, sys
import onnxruntime
from modicum.core.errors import ModelError
from modicum.deploy.predict import OnnxModel
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 300 * 2**20,) * 2)
for path in sys.argv[1:]:
    try:
        OnnxModel(path)
    except ModelError:
        print("refused")
"""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not say how large a process is")
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["refused"] * len(paths), done.stderr[-2000:]


def test_answers_that_are_no_numbers_are_faults(exported: Exported, tmp_path: Path) -> None:
    def poison(model: onnx.ModelProto) -> None:
        tensor = first(model)
        bad = np.full(tuple(tensor.dims), np.nan, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(bad, tensor.name))

    path = tmp_path / "m.onnx"
    path.write_bytes(forged(exported.path, poison))
    found = list(OnnxModel(path).predict([exported.images[0]]))
    assert "not a number" in found[0].fault and found[0].name == ""


def test_a_run_whose_onnx_file_is_of_another_network(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(forged(exported.path, prop("net", "a" * 64)))
    assert list(predict(tmp_path, [])) == []
    page: dict[str, Any] = {"sha256": "a" * 64, "format": 1}
    (tmp_path / "net.json").write_text(json.dumps(page))
    assert list(predict(tmp_path, [])) == []
    (tmp_path / "net.json").write_text(json.dumps(page | {"sha256": "b" * 64}))
    with pytest.raises(ModelError, match=r"model\.onnx: not exported from the network in this folder"):
        predict(tmp_path, [])
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(ModelError, match=r"net\.json is damaged"):
        predict(tmp_path, [])


def test_the_command_line_says_one_paragraph(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(exported.path.read_bytes()[:-9])
    assert main(["predict", str(path), str(tmp_path)]) == ModelError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("modicum: ") and str(path) in said and said.count("\n") <= 2 and "Traceback" not in said

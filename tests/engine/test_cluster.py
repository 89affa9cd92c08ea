"""Several machines: what is refused, in which words; and, where Ray is installed, a cluster of this machine alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modicum
from modicum.core.errors import MachineError, ModelError, NeedsError
from modicum.data.samples import sample
from modicum.deploy.predict import Prediction
from modicum.deploy.predict import predict as alone
from modicum.deploy.predictions import write
from modicum.engine import cluster
from modicum.engine.fit import Listener, fit
from modicum.models import files
from modicum.runs.run import Run

# -- without Ray -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machines", "world", "cores"),
    [([8], 2, 4), ([2], 4, 1), ([8, 8], 2, 8), ([8, 4], 3, 4), ([8, 3], 3, 3), ([], 1, 1)],
)
def test_workers_get_as_many_cores_as_all_of_them_find_room_with(machines: list[int], world: int, cores: int) -> None:
    assert cluster.share(machines, world) == cores


@pytest.mark.parametrize("address", ["nonsense", "ray://head:10001", "head:port", ":6379"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(NeedsError, match="is not the address of a cluster"):
        cluster.reach(address)


def test_without_ray_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    before = dict(os.environ)
    with pytest.raises(NeedsError, match="Ray is not installed") as error, cluster.cluster("local"):
        pass
    assert dict(os.environ) == before
    assert error.value.fix == "Install it: pip install 'modicum[cluster]'"


SAID = {
    "Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.9": "versions differ: .*2.1",
    "gcs_client.cc: Unauthenticated: RPC error: InvalidAuthToken": "asks for a token",
    "ConnectionError: Failed to connect to Ray cluster at 10.0.0.1:6379": "no cluster answers",
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("said", SAID)
def test_rays_words_become_ours(said: str, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **_: Any) -> subprocess.CompletedProcess[bytes]:
        if late:
            raise subprocess.TimeoutExpired(command, timeout, stderr=said.encode())
        return subprocess.CompletedProcess(command, 1, b"", said.encode())

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(MachineError, match=SAID[said]) as error:
        cluster.reach("10.0.0.1:6379")
    assert error.value.where == "--cluster 10.0.0.1:6379" and error.value.fix


def test_another_version_of_modicum_is_told_as_data() -> None:
    found = cluster.classify([["a.png"]], "model.onnx", "0.0.0")
    assert isinstance(found, cluster.Wrong) and found.kind == "NeedsError"
    assert modicum.__version__ in found.found and "0.0.0" in found.found


def test_a_model_that_is_not_there_is_told_as_data_and_raised_here(tmp_path: Path) -> None:
    found = cluster.classify([["a.png"]], str(tmp_path / "model.onnx"), modicum.__version__)
    assert isinstance(found, cluster.Wrong) and found.kind == "ModelError"
    with pytest.raises(ModelError, match="no such file"):
        next(cluster.predict(tmp_path / "model.onnx", [], address="nonsense"))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interface_of_an_address() -> None:
    assert cluster.interface("127.0.0.1") == "lo" and cluster.interface("192.0.2.255") == ""


# -- with Ray ----------------------------------------------------------------------------------------------------------

with_ray = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]
OTHER = pytest.mark.xfail(strict=True, reason="it begins again by itself, but ends with weights that differ by 0.008")
QUICK: dict[str, Any] = {"labels": 2, "steps": 10, "twins": "none", "precision": "32"}


def marked(function: Any) -> Any:
    for mark in with_ray:
        function = mark(function)
    return function


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    if importlib.util.find_spec("ray") is None:  # not imported here: Ray decides then where it listens
        pytest.skip("Ray is not installed")
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))
    return fit("sample:digits", tmp_path_factory.mktemp("cluster") / "run", devices=2, **QUICK)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """60,000 images of Fashion-MNIST, 10,000 a folder, and in the first one that cannot be read."""
    import gzip

    packed = shared_data / "fashion-mnist" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    if not packed.is_file():
        pytest.skip(f"{packed} is not here")
    images = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    folder = tmp_path_factory.mktemp("pool")
    for i, image in enumerate(images):
        into = folder / str(i // 10_000)
        into.mkdir(exist_ok=True)
        Image.fromarray(image).save(into / f"{i:05d}.png", compress_level=1)
    (folder / "0" / "00077.png").write_bytes(b"\x89PNG no more")
    return folder


def working() -> dict[int, float]:
    """Workers that classify now: process -> MB of RssAnon."""
    out: dict[int, float] = {}
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if place.name.isdigit() and (place / "cmdline").read_bytes().startswith(b"ray::classify"):
                found = re.search(r"RssAnon:\s+(\d+)", (place / "status").read_text())
                out[int(place.name)] = int(found[1]) / 1000 if found else 0.0
    return out


class Watch:
    """Looks at the workers, five times a second; peak: MB of the largest.  kills: one of them, once."""

    def __init__(self, kills: bool = False) -> None:
        self.peak, self.kills, self.done = 0.0, kills, threading.Event()

    def __enter__(self) -> Watch:
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def look(self) -> None:
        while not self.done.wait(0.2):
            found = working()
            self.peak = max(self.peak, *found.values(), 0.0)
            if self.kills and self.peak > 60 and found:
                os.kill(next(iter(found)), signal.SIGKILL)
                self.kills = False


def listening() -> set[str]:
    """Sockets of this machine that others can reach: hexadecimal address and port."""
    out = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            inside = local.startswith(("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"))
            if state == "0A" and not inside:
                out.add(local)
    return out


@marked
def test_a_local_cluster_listens_to_this_machine_alone(run: Run) -> None:
    """In a process of its own, since Ray decides as it is imported."""
    script = """
        import sys
        from tests.engine.test_cluster import listening
        from modicum.engine.cluster import cluster
        before = listening()
        with cluster("local", 2) as ray:
            assert int(ray.cluster_resources()["CPU"]) >= 2
            print(sorted(listening() - before))
    """
    import textwrap

    found = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@marked
def test_an_address_where_nobody_answers_is_told_within_its_time(run: Run) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(MachineError, match="no cluster answers"):
            cluster.reach(f"127.0.0.1:{deaf.getsockname()[1]}")


@marked
@pytest.mark.parametrize("kills", [False, True], ids=["undisturbed", "a worker is killed"])
def test_two_workers_answer_as_one_process_and_their_memory_is_flat(
    run: Run, pool: Path, tmp_path: Path, kills: bool
) -> None:
    peaks = {}
    for folders in (1, 6):
        places = [pool / str(i) for i in range(folders)]
        with Watch(kills and folders == 6) as watch:
            count = write(cluster.predict(run.folder, places, workers=2), tmp_path / "two.parquet")
        peaks[folders] = watch.peak
        assert count == 10_000 * folders and not watch.kills
    write(alone(run.folder, places), tmp_path / "one.parquet")
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert peaks[1] > 0 and peaks[6] <= 1.05 * peaks[1], peaks


@marked
def test_images_that_take_every_worker_down_are_named(run: Run, pool: Path) -> None:
    def until() -> Iterator[Prediction]:
        yield from cluster.predict(run.folder, [pool / "0"], workers=1)

    done = threading.Event()

    def hunt() -> None:
        while not done.wait(0.01):
            for process in working():
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)

    hunter = threading.Thread(target=hunt, daemon=True)
    hunter.start()
    try:
        with pytest.raises(MachineError, match=f"{cluster.TRIES} workers were lost with the 1,024 images") as error:
            list(until())
    finally:
        done.set()
        hunter.join()
    assert error.value.where.endswith("00000.png")


class Killing(Listener):
    """Kills the second rank's process at a step, once."""

    def __init__(self, at: int) -> None:
        self.at, self.said = at, []  # type: ignore[var-annotated]

    def say(self, text: str) -> None:
        self.said.append(text)

    def tick(self, arm: str, done: int, total: int, values: Any) -> None:
        if done == self.at:
            self.at = -1
            os.kill(ranks_of_ray()[-1], signal.SIGKILL)


def ranks_of_ray() -> list[int]:
    """Processes of ranks, in the order of their start."""
    found = []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if place.name.isdigit() and b"modicum.engine.rank" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return sorted(found)


@marked
@pytest.mark.parametrize("at", [-2, pytest.param(4, marks=OTHER)], ids=["undisturbed", "a worker is killed"])
def test_training_on_two_workers_is_that_of_two_processes(run: Run, tmp_path: Path, at: int) -> None:
    listen = Killing(at)
    spread = fit("sample:digits", tmp_path / "run", listen, devices=2, cluster="local", checkpoint=0.0, **QUICK)
    again = [text for text in listen.said if "beginning again from the last checkpoint" in text]
    assert len(again) == (at > 0)
    one, other = (files.load(r.folder)[0].state_dict() for r in (run, spread))
    assert one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)
    assert len(sample("digits")) == spread.config["data"]["images"]

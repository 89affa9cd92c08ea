"""Several machines through Ray: training on some of them, and prediction over a pool too large for one.

Ray pickles what passes between its processes, so a cluster belongs in a network that one trusts.  What we hand it are
functions of this module by name, paths and plain values; what comes back are numbers and lines of JSON.  Every machine
must see the run, the images and the model at the same paths, and have the same version of Modicum.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import modicum
from modicum.core import errors
from modicum.core.errors import MachineError, ModicumError, NeedsError
from modicum.deploy.predict import OnnxModel, Prediction, files_of, model_of
from modicum.engine.launch import Child, LostError, Order, environment, log_of, loopback, together
from modicum.runs.machine import cores

REACHED = 20.0  # seconds in which a cluster must answer
ROOM = 60.0  # seconds in which it must have room for the workers
TRIES = 3  # times that a worker may be lost with the same work
BLOCK = 16  # batches that a worker is handed at once

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {
    **QUIET,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's word for: listen to this machine alone
    # Ray asks the clouds' metadata addresses whose machine this is, whatever is said of statistics: by plain http,
    # which then leads nowhere.
    "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost",
}  # fmt: skip
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"


@contextmanager
def cluster(address: str, workers: int = 0) -> Iterator[Any]:
    """Ray, connected.  address: "local" for a cluster of this machine alone, ended on leaving; "auto" or HOST:PORT for
    one that runs.  workers: for how many a local one has cores at least.  NeedsError, MachineError: in plain words.
    """
    local = address == "local"
    with variables(ALONE if local else QUIET):
        try:
            import ray
        except ImportError:
            fix = "Install it: pip install 'modicum[cluster]'"
            raise NeedsError("Ray is not installed", where="--cluster", fix=fix) from None
        if not local:
            reach(address)
        here: dict[str, Any] = {"num_cpus": max(workers, cores().usable), "include_dashboard": False} if local else {}
        try:
            found: Any = ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **here)
        except Exception as error:  # Ray raises bare ones
            why, fix = " ".join(str(error).split())[:200], "The logs in its session folder say more."
            raise MachineError(f"Ray did not start: {why}", where=f"--cluster {address}", fix=fix) from None
    try:
        if local and found.address_info["node_ip_address"] not in ("127.0.0.1", "::1"):
            fix = "Ray was imported before: leave that to Modicum, or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0."
            raise MachineError("Ray would listen to the network", where="--cluster local", fix=fix)
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def variables(names: Mapping[str, str]) -> Iterator[None]:
    """Inside, the environment has these variables; processes that are started there keep them."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def reach(address: str) -> None:
    """Try to connect, in a process that can be given up: MachineError with Ray's words where it fails or takes long."""
    host, _, port = address.rpartition(":")
    fix = "Give HOST:PORT of the cluster's head (`ray start --head` prints it), auto, or local."
    if address != "auto" and (not host or "/" in host or not port.isdigit()):
        raise NeedsError(f"{address!r} is not the address of a cluster", where="--cluster", fix=fix)
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE, address], capture_output=True, timeout=REACHED)
        if not probe.returncode:
            return
        said = probe.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or b"").decode(errors="replace")
    found = "no cluster answers"
    if "InvalidAuthToken" in said:
        found = "the cluster asks for a token that this process does not have"
        fix = "Set RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token in the same place here or in RAY_AUTH_TOKEN."
    elif "Version mismatch" in said:
        found = f"the versions differ: {' '.join(said.partition('Version mismatch')[2].strip(': ').split())}"
        fix = "Install the same versions of Python and Ray on every machine."
    raise MachineError(found, where=f"--cluster {address}", fix=fix)


# -- prediction --------------------------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """Of a block of images: what is wrong with each, and the probabilities of those with which nothing is."""

    faults: list[str]
    probs: np.ndarray


class Wrong(NamedTuple):
    """A ModicumError in its parts."""

    kind: str
    found: str
    where: str
    fix: str


@functools.lru_cache(maxsize=1)
def _model(path: str) -> OnnxModel:
    return model_of(path)


def classify(batches: list[list[str]], model: str, version: str) -> Answers | Wrong:
    """On a worker: batches of files -> faults ('' = none) and the probabilities, float32 (G,C), of those without; or
    an error in words, since one that is raised here would reach the other side as pages of Ray's own.
    """
    try:
        same_version(version)
        found = [p for files in batches for p in _model(model).predict([Path(f) for f in files], len(files))]
    except ModicumError as error:
        return Wrong(type(error).__name__, error.found, error.where, error.fix)
    probs = [p.probs for p in found if not p.fault]
    return Answers([p.fault for p in found], np.stack(probs) if probs else np.empty((0, 0), np.float32))


def same_version(version: str) -> None:
    """NeedsError where this machine has another Modicum than the one that gave the order."""
    if version != modicum.__version__:
        found = f"{socket.gethostname()} has Modicum {modicum.__version__}, and the command was given by {version}"
        raise NeedsError(found, where="--cluster", fix="Install the same version on every machine.")


def predict(
    model: Path | str, images: Iterable[Path | str], batch: int = 64, address: str = "local", workers: int = 0
) -> Iterator[Prediction]:
    """`deploy.predict.predict` with the work spread over a cluster: the same answers, to the bit, in the same order.

    Memory is that of some blocks, here and on each worker.  A worker that is lost costs its block's time; a block that
    loses as many as TRIES is a MachineError.  workers: at most so many at once; 0 = one a core.
    """
    net, place = model_of(model), str(Path(model).resolve())
    with cluster(address, workers) as ray:
        most = workers or int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(classify)
        waiting: deque[tuple[list[Path], Any]] = deque()
        names = files_of(images)
        while (block := list(islice(names, batch * BLOCK))) or waiting:
            if block:
                paths = [str(p.absolute()) for p in block]
                batches = [paths[i : i + batch] for i in range(0, len(paths), batch)]
                waiting.append((block, task.remote(batches, place, modicum.__version__)))
            if len(waiting) > 2 * most or not block:
                files, answer = waiting.popleft()
                yield from _predictions(files, _got(ray, answer, files), net.classes, net.many)


def _got(ray: Any, answer: Any, files: list[Path]) -> Answers:
    """A block's answers, or the error in words."""
    try:
        found = ray.get(answer)
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[0][:200]
        found = f"{TRIES} workers were lost with the {len(files):,} images from this one on ({why})"
        fix = "One of them may end the process that reads it; or memory ran out: try a smaller --batch."
        raise MachineError(found, where=files[0], fix=fix) from None
    if isinstance(found, Wrong):
        raise getattr(errors, found.kind)(found.found, where=found.where, fix=found.fix)
    return found


def _predictions(files: list[Path], found: Answers, classes: tuple[str, ...], many: bool) -> Iterator[Prediction]:
    rows = iter(found.probs)
    for file, fault in zip(files, found.faults, strict=True):
        if fault:
            yield Prediction(str(file), "", float("nan"), np.empty(0, np.float32), classes, fault, many)
            continue
        probs = next(rows)
        best = int(probs.argmax())
        yield Prediction(str(file), classes[best], float(probs[best]), probs, classes, many=many)


# -- training ----------------------------------------------------------------------------------------------------------


class Host:
    """On a machine of the cluster: the process of one rank, and what it said since it was last asked."""

    def __init__(self) -> None:
        import ray

        self.address: str = ray.util.get_node_ip_address()
        self.said: queue.Queue[str | None] = queue.Queue()
        self.child: Child | None = None

    def meet(self) -> tuple[str, int]:
        """This machine's address, as the others know it, and a free port."""
        with socket.socket() as free:
            free.bind((self.address, 0))
            return self.address, free.getsockname()[1]

    def start(self, order: Order, threads: int) -> None:
        """Begin."""
        env = environment(threads, interface(self.address))
        with log_of(Path(order["run"], "ranks"), order["rank"]).open("wb") as log:
            self.child = Child(order, env, log)
        threading.Thread(target=self._hear, args=(self.child,), daemon=True).start()

    def _hear(self, child: Child) -> None:
        for line in child.lines():
            self.said.put(line)
        self.said.put(None)

    def read(self) -> tuple[list[str], str | None]:
        """Lines since the last call, waiting a second for one; and how the process ended, None while it runs."""
        lines: list[str] = []
        assert self.child is not None
        with suppress(queue.Empty):
            while (line := self.said.get(timeout=0 if lines else 1)) is not None:
                lines.append(line)
            return lines, self.child.ended()
        return lines, None

    def stop(self) -> None:
        assert self.child is not None
        self.child.stop()


class Worker:
    """A rank on the cluster, as `launch.together` wants it."""

    def __init__(self, ray: Any, host: Any) -> None:
        self.ray, self.host, self.how = ray, host, ""

    def lines(self) -> Iterator[str]:
        try:
            how: str | None = None
            while how is None:
                said, how = self.ray.get(self.host.read.remote())
                yield from said
            self.how = how
        except self.ray.exceptions.RayError:
            self.how = "was lost with its worker"

    def ended(self) -> str:
        return self.how

    def stop(self) -> None:
        self.host.stop.remote()

    def kill(self) -> None:
        self.ray.kill(self.host)


def interface(address: str) -> str:
    """The network interface that has an IPv4 address; '' where the system does not tell."""
    if address.startswith("127."):
        return loopback()
    if sys.platform != "linux":
        return ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                found = fcntl.ioctl(asked.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return ""


def train(order: Order, world: int, address: str, listen: Any) -> None:
    """Run the order on `world` workers of a cluster.  Where one is lost, all begin again from the last checkpoint."""
    with cluster(address, world) as ray:
        for left in reversed(range(TRIES)):
            try:
                listen.say(f"Starting {world} workers")
                _once(ray, {**order, "new": not Path(order["run"], "config.json").exists()}, world, listen)
                break
            except LostError as lost:
                if not left:
                    raise
                listen.say(f"{lost.found}: beginning again from the last checkpoint")


def _once(ray: Any, order: Order, world: int, listen: Any) -> None:
    """Start the workers, let them meet, and attend to them."""
    gpus = int(order["config"]["choices"]["device"] == "cuda")
    threads = share([int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]], world)
    kind = ray.remote(num_cpus=threads, num_gpus=gpus, max_concurrency=4)(Host)
    hosts = [kind.remote() for _ in range(world)]
    with tempfile.TemporaryDirectory(prefix="modicum-ranks-") as folder:
        try:
            found = ray.get([h.meet.remote() for h in hosts], timeout=ROOM)
        except ray.exceptions.GetTimeoutError:
            needs = f"{threads} cores{' and a GPU' if gpus else ''} each for {world} workers are not free"
            raise MachineError(needs, where="--cluster", fix="Wait, or use fewer --devices.") from None
        address, port = found[0]
        meet = Path(folder, "meet").as_uri() if address.startswith("127.") else f"tcp://{address}:{port}"
        order = {**order, "meet": meet, "world": world, "gpu": 0}

        def start(rank: int) -> Worker:
            ray.get(hosts[rank].start.remote({**order, "rank": rank}, threads))
            return Worker(ray, hosts[rank])

        together(world, start, Path(order["run"], "ranks"), listen)


def share(cores: list[int], world: int) -> int:
    """Cores for each worker, at least 1: the most with which all find room on machines of so many cores."""
    most = [t for t in range(1, max(cores, default=1) + 1) if sum(c // t for c in cores) >= world]
    return max(most, default=1)

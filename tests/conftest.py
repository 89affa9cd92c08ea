"""Shared by all tests: one thread a process, no network, and where the sample data lies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.child.sitecustomize import reached, watch

CHILD = Path(__file__).parent / "child"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHILD), os.environ.get("PYTHONPATH"))))
watch(Path(tempfile.gettempdir(), f"modicum-sockets-{os.getpid()}.txt"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Fixtures stay on this machine."""
    yield
    if found := reached():
        pytest.fail(f"a fixture reached for the network: {found}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Tests stay on this machine, also where they swallow the error."""
    yield
    if found := reached():
        pytest.fail(f"the test reached for the network: {found}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def state_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests leave behind, tracebacks of provoked faults and caches, is not kept among what is the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real sample sets; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MODICUM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("sample data are not here: set MODICUM_DATA")
    return folder

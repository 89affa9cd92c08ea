"""The socket guard of tests/conftest.py: what it stops, what it lets through, and that it cannot be swallowed."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.child.sitecustomize import local, reached

ROOT = Path(__file__).parents[1]
FAR = "192.0.2.1"  # an address that is nobody's, by RFC 5737


def udp(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"x", (host, 9))


REACHES: dict[str, Callable[[], object]] = {
    "tcp": lambda: socket.create_connection((FAR, 80), timeout=1),
    "tcp, version 6": lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
    "udp": lambda: udp(FAR),
    "a name": lambda: socket.getaddrinfo("huggingface.co", 443),
    "an older way": lambda: socket.gethostbyname("example.org"),
    "backwards": lambda: socket.gethostbyaddr(FAR),
}


@pytest.mark.parametrize("case", REACHES)
def test_what_leaves_the_machine_is_stopped_and_noted(case: str) -> None:
    with pytest.raises(OSError, match="tests may not reach the network"):
        REACHES[case]()
    assert "socket." in reached()


def test_this_machine_is_let_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"hello")
        assert server.accept()[0].recv(5) == b"hello"
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x" and socket.getaddrinfo("localhost", 80) and not reached()
    assert all(map(local, (None, "", "::1", "127.0.0.9", b"localhost"))) and not any(map(local, (FAR, "10.0.0.1", "x")))


TESTS = """
import socket, subprocess, sys
CODE = "import socket; s = socket.socket(); s.settimeout(1); s.connect(('192.0.2.1', 80))"

def test_swallowed():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    except OSError:
        pass

def test_in_another_process():
    subprocess.run([sys.executable, "-c", CODE], capture_output=True)

def test_honest():
    assert socket.getaddrinfo("localhost", 80)
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_swallowed_error_fails_the_test(workers: str, tmp_path: Path) -> None:
    """A suite of its own under the same guard: in this process, and in a worker of xdist."""
    (tmp_path / "test_it.py").write_text(TESTS)
    words = ["-m", "pytest", "-p", "tests.conftest", "-c", "/dev/null", "--rootdir", tmp_path, "-n", workers, "-rA"]
    run = [sys.executable, *map(str, words), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, timeout=120)
    lines = [line.split() for line in done.stdout.splitlines() if "::" in line]
    said = {words[1].rpartition("::")[2]: words[0] for words in lines}
    expected = {"test_swallowed": "FAILED", "test_in_another_process": "FAILED", "test_honest": "PASSED"}
    assert said == expected, done.stdout
    assert done.stdout.count("reached for the network") >= 2

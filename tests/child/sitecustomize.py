"""The socket guard: no process of a test reaches further than this machine.

tests/conftest.py starts it, and puts this folder on PYTHONPATH: Python imports a module of this name when any process
begins.  Addresses of this machine (loopback, unix sockets) are let through.  Anything else is refused like an
unreachable network, and noted in a file, so that the test fails even where the error was swallowed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NOTES = "MODICUM_TEST_SOCKETS"
_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
_PEER = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}  # event -> where its address is
_LOOKUP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


def watch(notes: Path) -> None:
    """Guard this process and those it starts."""
    os.environ[NOTES] = str(notes)
    sys.addaudithook(hook)


def reached() -> str:
    """What was refused since this was last asked; '' if nothing was."""
    notes = Path(os.environ[NOTES])
    try:
        return notes.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    finally:
        notes.unlink(missing_ok=True)


def local(host: object) -> bool:
    """Whether a host is this machine: a loopback address, one of its names, or none at all."""
    import ipaddress

    if host is None:
        return True
    text = (host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)).partition("%")[0]
    if text.lower() in _NAMES:
        return True
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def hook(event: str, args: tuple[object, ...]) -> None:
    """Refuse what leaves the machine."""
    if not event.startswith("socket."):
        return
    if event in _PEER:
        address = args[_PEER[event]]
        host = address[0] if isinstance(address, tuple) and address else None  # others are paths of unix sockets
    elif event in _LOOKUP:
        host = args[0][0] if isinstance(args[0], tuple) else args[0]
    else:
        return
    if not local(host):
        with Path(os.environ[NOTES]).open("a", encoding="utf-8") as file:
            file.write(f"{event} {host!r}\n")
        raise OSError(101, f"tests may not reach the network: {event} {host!r}")


if os.environ.get(NOTES):
    sys.addaudithook(hook)

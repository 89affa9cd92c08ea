"""The suite: which laws a method or a part is put through, and what comes of it."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from modicum.core.card import read_card
from modicum.core.errors import SettingsError, did_you_mean
from modicum.testing import (
    checks_bits,
    checks_card,
    checks_explain,
    checks_imagine,
    checks_label,
    checks_needs,
    checks_objective,
    checks_part,
    checks_score,
    checks_select,
    checks_settings,
    checks_train,
    checks_trust,
    tolerances,
)
from modicum.testing.case import Case
from modicum.testing.part import Part
from modicum.testing.results import ALL, PARTS, BrokenError, Check, NotForItError, Result, check

REFERENCE = 0.006  # seconds that `machine` takes where the limit on time was set


@check("xfail", ALL, "A check was renamed, or the reason is left out.")
def xfail(case: Case) -> None:
    """Checks that the card expects to fail exist, and each has a reason."""
    for name, reason in case.card.xfail.items():
        if name not in CHECKS:
            raise BrokenError(f"there is no check {name!r}. {did_you_mean(name, CHECKS)}")
        if not reason.strip():
            raise BrokenError(f"{name} is expected to fail without a reason")


@check("time", (*ALL, *PARTS), "Toy data cost what large ones should: lower the `small` preset, or vectorise a loop.")
def spent(case: Case | Part) -> None:
    """Measured by check_method."""
    raise NotForItError


_FILES = (
    checks_card, checks_settings, checks_needs, checks_train, checks_bits, checks_label, checks_score, checks_select,
    checks_explain, checks_imagine, checks_part, checks_trust, checks_objective,
)  # fmt: skip
CHECKS: Mapping[str, Check] = {
    c.name: c for c in (*(c for file in _FILES for c in vars(file).values() if isinstance(c, Check)), xfail, spent)
}


def check_method(name: str, only: str = "", *, skip: tuple[str, ...] = (), slow: bool = False) -> list[Result]:
    """Put a method or a part through every law of its role.

    name: a registered method, a part as `trust/NAME` or `objective/NAME`, or the path of a file that defines one.
    only: one check by name, slow or not.  slow: with the slow tier.  A law that says nothing about it gives no Result.
    SettingsError for an unknown name.
    """
    if only and only not in CHECKS:
        raise SettingsError(f"there is no check {only!r}", where="check", fix=did_you_mean(only, CHECKS))
    case = opened(name)
    chosen = [c for c in CHECKS.values() if case.role in c.roles and c is not spent and c.name not in skip]
    chosen = [c for c in chosen if c.name == only] if only else [c for c in chosen if slow or not c.slow]
    torch.optim.SGD([torch.zeros(1)], 0.1)  # a second of imports, which is no method's cost; nor is torchvision's
    importlib.import_module("torchvision.ops")
    with one_thread():
        factor = max(1.0, machine() / REFERENCE)
        found, limit = _run(chosen, case), tolerances.CPU_SECONDS * factor
        if only or spent.name in skip:
            return found
        took = [r.seconds for r in found if not CHECKS[r.check].slow]
        if sum(took) > limit:  # what else the machine does can only add: once more, and of each check the lesser
            again = _run([c for c in chosen if not c.slow], opened(name))
            took = [min(a, b.seconds) for a, b in zip(took, again, strict=True)]
    return [*found, timed(case, sum(took), limit)]


def _run(laws: list[Check], case: Case | Part) -> list[Result]:
    return [r for law in laws if (r := run(law, case)) is not None]


def opened(name: str) -> Case | Part:
    """What a name or a file is of."""
    part = read_card(Path(name)) is None if name.endswith(".py") else name.partition("/")[0] in PARTS
    return Part.open(name) if part else Case.open(name)


def timed(case: Case | Part, seconds: float, limit: float) -> Result:
    """The result of the check on time."""
    slow = f"{seconds:.1f} CPU seconds" + (f", at most {limit:.1f}" if seconds > limit else "")
    return judged(case, spent, "" if seconds <= limit else slow, slow, seconds)


def run(law: Check, case: Case | Part) -> Result | None:
    """One check; None where it says nothing about this method or part."""
    begun, failed, said = time.process_time(), "", ""
    try:
        with torch.random.fork_rng(devices=[]):
            said = law.run(case) or ""
    except NotForItError:
        return None
    except AssertionError as error:
        failed = str(error)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        failed = f"{type(error).__name__}: {error} ({at.filename.rsplit('/', 1)[-1]}:{at.lineno})"
    return judged(case, law, failed, said, time.process_time() - begun)


def judged(case: Case | Part, law: Check, failed: str, said: str, seconds: float) -> Result:
    """The result, with what the card expects taken into account: an expected failure that passes is a failure."""
    expected = case.xfail.get(law.name, "")
    if expected and failed:
        return Result(case.name, law.name, True, f"fails as expected ({expected}): {failed}", law.cause, seconds)
    if expected:
        said = "passes, though the card expects it to fail: take it off `xfail`"
        return Result(case.name, law.name, False, said, law.cause, seconds)
    return Result(case.name, law.name, not failed, failed or said, law.cause, seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread a process: tensors are tiny, and the same bits are promised for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> float:
    """CPU seconds of a fixed piece of work, the least of three times: how fast this machine is now."""
    x, weight = torch.ones(32, 8, 16, 16), torch.ones(8, 8, 3, 3, requires_grad=True)
    took = []
    for _ in range(3):
        begun = time.process_time()
        for _ in range(10):
            torch.nn.functional.conv2d(x, weight, padding=1).relu().sum().backward()
        took.append(time.process_time() - begun)
    return min(took)

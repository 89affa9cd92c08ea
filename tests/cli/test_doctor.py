"""`modicum doctor`: says what is there, and what to do about what is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from modicum.cli import _findings, main
from modicum.cli._findings import CAREFUL, OK, WRONG, Finding
from modicum.runs import machine


def found(check: object) -> list[Finding]:
    return list(check())  # type: ignore[operator]


def test_a_sound_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path))
    (tmp_path / "pixels.bin").write_bytes(bytes(2_500_000))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    abouts = ("python", "packages", "cores", "memory", "disk", "cache", "encoding", "downloads", "torch", "devices")
    for about in abouts:
        assert re.search(rf"^(ok|careful) +{about} ", out, re.M), about
    assert f"2.5 MB of decoded images in {tmp_path}; delete that folder to clear it" in out
    assert re.search(r"imported in \d+\.\d s, .*bf16 products take \d+\.\d\d of the time", out)
    assert re.fullmatch(r"Nothing is wrong.*\.  Looked for \d+\.\d s\.", out.splitlines()[-1])


def test_quick_loads_nothing_slow() -> None:
    code = "import sys\nfrom modicum.cli import main\nmain(['doctor', '--quick'])\n"
    code += "print([m for m in ('torch', 'numpy', 'pyarrow', 'PIL', 'timm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_missing_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["no-such-package>=1", "numpy>=9999", "pillow>=1", "only-for-tests>=1; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted if name == "modicum" else [])
    assert main(["doctor", "--quick"]) == 1
    out = capsys.readouterr().out
    assert f"{sys.executable} -m pip install 'no-such-package>=1'" in out and "pip install 'numpy>=9999'" in out
    assert "modicum needs no-such-package>=1: no-such-package is not installed" in out
    assert "packages   pillow " in out and out.splitlines()[-1].startswith("2 wrong")
    assert main(["doctor", "--quick", "--json"]) == 1
    kept = json.loads(capsys.readouterr().out)
    assert kept["wrong"] == 2 == sum(f["state"] == "wrong" and bool(f["fix"]) for f in kept["findings"])


def test_packages_that_do_not_fit_each_other_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"modicum": ["pillow>=1"], "pillow": ["numpy==0.1"]}
    monkeypatch.setattr(metadata, "requires", lambda name: wanted.get(name, []))
    (finding,) = (f for f in found(_findings.packages) if f.state == WRONG)
    assert finding.text.startswith("pillow needs numpy==0.1: numpy is ") and "'numpy==0.1'" in finding.fix


def test_versions_other_than_the_tried_ones_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_findings, "_tried", lambda: {"pillow": "1.0", "numpy": metadata.version("numpy")})
    (finding,) = found(_findings.packages)
    assert f"pillow {metadata.version('pillow')} (tried with 1.0)" in finding.text
    assert f"numpy {metadata.version('numpy')}," in finding.text and finding.state == OK


def test_the_tried_versions_are_those_of_the_constraints() -> None:
    assert _findings._tried().keys() > {"torch", "numpy", "pillow"}


@pytest.mark.parametrize(
    "cores, env, state, says",
    [
        (machine.Cores(8, 8, None), {}, OK, "8 usable of 8"),
        (machine.Cores(64, 64, 2.0), {}, CAREFUL, "2 usable of 64 (2 by the control group)"),
        (machine.Cores(64, 64, 2.0), {"OMP_NUM_THREADS": "2"}, OK, "OMP_NUM_THREADS=2"),
        (machine.Cores(64, 4, None), {"OMP_NUM_THREADS": "16"}, CAREFUL, "4 usable of 64 (4 allowed), OMP_"),
        (machine.Cores(4, 4, 0.5), {"MKL_NUM_THREADS": "x"}, OK, "1 usable of 4 (0.5 by the control group)"),
    ],
)  # fmt: skip
def test_more_threads_than_cores(
    monkeypatch: pytest.MonkeyPatch, cores: machine.Cores, env: dict[str, str], state: str, says: str
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    (finding,) = found(_findings.cores)
    assert finding.state == state and says in finding.text
    assert finding.fix.startswith(f"Set OMP_NUM_THREADS={cores.usable}") == (state == CAREFUL)


def test_little_memory_and_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(2**34, 2**29, 2**30))
    assert found(_findings.memory)[0][:3] == (
        "memory", CAREFUL, "0.5 GiB free of 16.0, at most 1.0 by the control group",
    )  # fmt: skip
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(None, None, None))
    assert found(_findings.memory)[0].state == OK
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "not" / "yet"))
    assert [f.state for f in found(_findings.disk)] == [OK, OK] and not (tmp_path / "not").exists()
    monkeypatch.setattr(_findings, "_writable", lambda folder: folder != tmp_path)
    assert [f.state for f in found(_findings.disk)] == [OK, WRONG]
    monkeypatch.setattr(_findings, "DISK", 1e9)
    assert found(_findings.disk)[0].state == CAREFUL


def test_downloads_and_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert found(_findings.downloads)[0].text.startswith("never")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HOME", "place")
    assert f"from huggingface.co into {Path('place') / 'hub'}" in found(_findings.downloads)[0].text
    done = subprocess.run(
        [sys.executable, "-m", "modicum", "doctor", "--quick"], capture_output=True, env={"PYTHONIOENCODING": "ascii"}
    )
    assert b"careful  encoding   output ascii" in done.stdout and b"PYTHONUTF8=1" in done.stdout


def test_a_torch_that_cannot_be_imported_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (finding,) = found(_findings.devices)
    assert finding.state == WRONG and "cannot be imported" in finding.text and "torchvision" in finding.fix


@pytest.mark.parametrize(
    "built, hidden, state, says",
    [
        (None, None, CAREFUL, "a torch without CUDA"), ("13.2", "", CAREFUL, "CUDA_VISIBLE_DEVICES="),
        ("13.2", None, CAREFUL, "too old for CUDA 13.2"),
    ],
)  # fmt: skip
def test_a_gpu_that_is_not_used(
    monkeypatch: pytest.MonkeyPatch, built: str | None, hidden: str | None, state: str, says: str
) -> None:
    monkeypatch.setattr(_findings.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    finding = _findings._without(built)
    assert finding.state == state and says in finding.text and finding.fix


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def cores() -> None:
        raise OSError("odd")

    monkeypatch.setattr(machine, "cores", cores)
    states = {f.about: f for f in _findings.look(quick=True)}
    assert states["cores"].state == WRONG and "OSError: odd" in states["cores"].text and "memory" in states


def test_saved_faults_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert found(_findings.faults) == []
    (tmp_path / "modicum").mkdir()
    (tmp_path / "modicum" / "fault-12345678.txt").touch()
    assert "fault-12345678.txt" in found(_findings.faults)[0].text


def test_every_extra_says_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == set(_findings.EXTRAS)
    wanted = ["pillow>=1", "no-such-package>=1; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    (finding,) = found(_findings.extras)
    assert finding.text == "[test] (to run Modicum's own tests) lacks no-such-package"
    assert "modicum[test]" in finding.fix

"""The few lines that a finished run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modicum.runs.run import Run


def percent(value: Any) -> str:
    """`94.2 % (92.5 to 95.7)` from [value, low, high]."""
    v, low, high = (100 * x for x in value)
    return f"{v:.1f} % ({low:.1f} to {high:.1f})"


def points(value: Any) -> str:
    """`+9.1 points (7.0 to 11.2)`."""
    v, low, high = (100 * x for x in value)
    return f"{v:+.1f} points ({low:+.1f} to {high:+.1f})"


def accuracies(folder: Path) -> list[str]:
    """A line an arm: test accuracy with its interval, and the gain over the better twin."""
    run = Run(folder)
    found, guesses = run.read("evaluation.json"), run.read("keep.json")["guesses"]
    lines = [f"{name:>18}  {percent(arm['accuracy'])}" for name, arm in found["arms"].items()]
    gain = found.get("gain")
    if gain:
        lines.append(f"{'gain':>18}  {points(gain['accuracy'])} over {gain['over']}")
        lines.append("Twins are the same network trained on the labels alone, with weak or with strong augmentation.")
    copies = found.get("copies") or {"images": 0}
    if guesses and guesses["believed"]:
        right = f"{guesses['right']} of {guesses['believed']} right, {percent(guesses['precision'])}"
        lines.append(f"Its own labels, where it believes them: {right} on labels it had not seen.")
    return [*lines, found["verdict"]["sentence"], *([copies["sentence"]] if copies["images"] else [])]


def summary(folder: Path) -> list[str]:
    """What was made, how good it is, and what to do next."""
    found = accuracies(folder)
    lines = ["", *(["Accuracy on test images, with 95 % intervals"] if len(found) > 1 else []), *found, ""]
    lines.append(f"Report   {folder / 'report.html'}")
    if (folder / "model.onnx").exists():
        lines.append(f"Model    {folder / 'model.onnx'} ({(folder / 'model.onnx').stat().st_size / 1e3:,.0f} kB)")
    return [*lines, "", "Next", *(f"  {n}" for n in next_commands(folder))]


def next_commands(folder: Path) -> list[str]:
    """Three commands that make sense now."""
    commands = {
        f"modicum predict {folder} IMAGES": "classify new images, without PyTorch",
        f"modicum explain {folder} IMAGES": "see where it looks",
        f"modicum select {folder} --budget 20": "which images to label next",
    }
    if not (folder / "model.onnx").exists():
        commands = {f"modicum export {folder}": "write model.onnx, which predict needs", **commands}
    wide = max(map(len, commands))
    return [f"{command:<{wide}}   # {what}" for command, what in commands.items()]

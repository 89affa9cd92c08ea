"""The few lines that a finished run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modicum.runs.run import Run


def percent(value: Any) -> str:
    """`94.2 % (92.5 to 95.7)` from [value, low, high]; `94.2 %` where the bounds are not known."""
    v, *bounds = (None if x is None else 100 * x for x in value)
    return f"{v:.1f} %" + (f" ({bounds[0]:.1f} to {bounds[1]:.1f})" if None not in bounds else "")


def points(value: Any) -> str:
    """`+9.1 points (7.0 to 11.2)`."""
    v, low, high = (100 * x for x in value)
    return f"{v:+.1f} points ({low:+.1f} to {high:+.1f})"


def accuracies(folder: Path) -> list[str]:
    """A line an arm: what was measured of it with its interval, and the gain over the better twin."""
    run = Run(folder)
    found, guesses = run.read("evaluation.json"), run.read("keep.json")["guesses"]
    lines = [f"{name:>18}  {percent(arm[found['lead']])}" for name, arm in found["arms"].items()]
    gain = found.get("gain")
    if gain:
        lines.append(f"{'gain':>18}  {points(gain['accuracy'])} over {gain['over']}")
        lines.append("Twins are the same network trained on the labels alone, with weak or with strong augmentation.")
    copies = found.get("copies") or {"images": 0}
    if guesses and guesses["believed"]:
        right = f"{guesses['right']} of {guesses['believed']} right, {percent(guesses['precision'])}"
        lines.append(f"Its own labels, where it believes them: {right} on labels it had not seen.")
    return [*lines, found["verdict"]["sentence"], *([copies["sentence"]] if copies["images"] else [])]


def title(folder: Path) -> str:
    """What the measured numbers are."""
    found = Run(folder).read("evaluation.json")
    return str(found["metrics"][found["lead"]]["title"])


def summary(folder: Path) -> list[str]:
    """What was made, how good it is, and what to do next."""
    found = accuracies(folder)
    lines = ["", *([f"{title(folder)} on test images, with 95 % intervals"] if len(found) > 1 else []), *found, ""]
    lines.append(f"Report   {folder / 'report.html'}")
    if (folder / "model.onnx").exists():
        lines.append(f"Model    {folder / 'model.onnx'} ({(folder / 'model.onnx').stat().st_size / 1e3:,.0f} kB)")
    return [*lines, "", "Next", *(f"  {n}" for n in next_commands(folder))]


def next_commands(folder: Path) -> list[str]:
    """Commands that make sense now."""
    want, select = Run(folder).config["want"], f"modicum select {folder} --budget 20"
    out = f" --{want} FOLDER" if want in ("masks", "boxes") else ""
    commands = {
        f"modicum predict {folder} IMAGES{out}": f"the {want} of new images, without PyTorch",
        f"modicum explain {folder} IMAGES": "see where it looks",
        **({select: "which images to label next"} if want == "class" else {}),
    }
    if not (folder / "model.onnx").exists():
        if (folder / "export.json").exists():  # which says why it was refused
            del commands[f"modicum predict {folder} IMAGES{out}"]
        else:
            commands = {f"modicum export {folder}": "write model.onnx, which predict needs", **commands}
    wide = max(map(len, commands))
    return [f"{command:<{wide}}   # {what}" for command, what in commands.items()]

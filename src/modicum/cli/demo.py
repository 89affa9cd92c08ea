"""See the whole job on 1,797 handwritten digits: offline, about a minute."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import fill, grid, say, screen


def demo(
    out: Annotated[str, typer.Option(help="Folder for what is made.")] = "modicum-demo",
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds.", min=1, max=20)] = 1,
) -> None:
    """See the whole job on 1,797 handwritten digits: offline, about a minute."""
    from pathlib import Path

    from modicum.cli._progress import telling
    from modicum.cli._summary import next_commands, percent, points

    with telling(out) as teller:
        teller.say("Loading PyTorch")
        from modicum.core.registry import cards
        from modicum.engine.demo import demo as run

        found = run(out, seeds, teller)
    console = screen()
    for labels, figures in found["labels"].items():
        say()
        say(f"{labels} labels a class, {figures['test_images']} test images, accuracy with 95 % interval")
        table = grid("", *(f"seed {i}" for i in range(len(figures["seeds"]))))
        for arm in figures["seeds"][0]["accuracy"]:
            title = cards()[arm].title if arm in cards() else arm
            fill(table, title, *(percent(s["accuracy"][arm]) for s in figures["seeds"]))
        fill(table, "gain over the better twin", *(points(s["gain_over_better_twin"]) for s in figures["seeds"]))
        console.print(table)
        if "gain_over_seeds" in figures:
            say(f"Mean gain over {len(figures['seeds'])} seeds: {points(figures['gain_over_seeds'])}")
    size, parity = found["onnx"].get("bytes"), found["onnx"].get("largest_difference")
    say()
    say(f"Report   {Path(out) / 'report.html'}   (open it in a browser)")
    if size:
        say(f"Model    {Path(out) / 'model.onnx'}   {size / 1e3:,.0f} kB; logits agree to {parity:.1e}")
    say(f"Figures  {Path(out) / 'summary.json'}   {found['seconds']['whole']:.0f} s in all")
    say()
    say("Next")
    say("  modicum fit YOUR_FOLDER                # one folder per class; the rest may lie in unlabelled/")
    for text in next_commands(Path(out))[1:]:
        say(f"  {text}")

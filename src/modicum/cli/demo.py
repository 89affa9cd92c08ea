"""See the whole job on 1,797 handwritten digits: offline, about a minute."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    out: Annotated[str, typer.Option(help="Folder for what is made.")] = "modicum-demo",
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds.", min=1, max=20)] = 1,
) -> None:
    """See the whole job on 1,797 handwritten digits: offline, about a minute."""
    from pathlib import Path

    from modicum.cli._progress import telling
    from modicum.cli._screen import grid, screen
    from modicum.cli._summary import next_commands, percent, points

    with telling() as teller:
        teller.say("Loading PyTorch")
        from modicum.core.registry import cards
        from modicum.engine.demo import demo as run

        found = run(out, seeds, teller)
    console = screen()
    for labels, figures in found["labels"].items():
        console.print(f"\n{labels} labels a class, {figures['test_images']} test images, accuracy with 95 % interval")
        table = grid("", *(f"seed {i}" for i in range(len(figures["seeds"]))))
        for arm in figures["seeds"][0]["accuracy"]:
            title = cards()[arm].title if arm in cards() else arm
            table.add_row(title, *(percent(s["accuracy"][arm]) for s in figures["seeds"]))
        table.add_row("gain over the better twin", *(points(s["gain_over_better_twin"]) for s in figures["seeds"]))
        console.print(table)
        if "gain_over_seeds" in figures:
            console.print(f"Mean gain over {len(figures['seeds'])} seeds: {points(figures['gain_over_seeds'])}")
    size, parity = found["onnx"].get("bytes"), found["onnx"].get("largest_difference")
    console.print(f"\nReport   {Path(out) / 'report.html'}   (open it in a browser)")
    if size:
        console.print(f"Model    {Path(out) / 'model.onnx'}   {size / 1e3:,.0f} kB; logits agree to {parity:.1e}")
    console.print(f"Figures  {Path(out) / 'summary.json'}   {found['seconds']['whole']:.0f} s in all\n\nNext")
    console.print("  modicum fit YOUR_FOLDER                # one folder per class; the rest may lie in unlabelled/")
    for text in next_commands(Path(out))[1:]:
        console.print(f"  {text}")

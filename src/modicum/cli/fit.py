"""Train, measure, explain and export a classifier from a folder of images."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def fit(
    data: Annotated[str, typer.Argument(help="Folder, table or file of images, or sample:digits.")],
    out: Annotated[str, typer.Option(help="The run's folder; the same command again resumes it.")] = "modicum-run",
    want: Annotated[str, typer.Option(help="What to tell: class, tags, masks or boxes (default: by the labels).")] = "",
    have: Annotated[str, typer.Option(help="Learn from these alone: --have tags, or --have tags,boxes@other.")] = "",
    other: Annotated[str, typer.Option(help="Images with labels of other classes, or a run that used such.")] = "",
    via: Annotated[list[str] | None, typer.Option(help="A method for a step before the last: --via layer-cam.")] = None,
    method: Annotated[str, typer.Option(help="Learn method (default: chosen by the labels; see `methods`).")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method: --set mu=7.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="A part of the recipe: --recipe optim.lr=0.01.")] = None,
    preset: Annotated[str, typer.Option(help="Settings and recipe to start from: small or paper.")] = "small",
    minutes: Annotated[float, typer.Option(help="Minutes to train the method (each twin takes as long).")] = 0.0,
    steps: Annotated[int, typer.Option(help="Gradient steps instead of minutes.")] = 0,
    batch: Annotated[int, typer.Option(help="Labelled images a step.")] = 0,
    net: Annotated[str, typer.Option(help="tiny-conv, tiny-res:depth=16,width=2 or any timm name.")] = "",
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")] = 0,
    pretrained: Annotated[bool, typer.Option(help="Start from published weights (fetched from the hub).")] = False,
    weights: Annotated[str, typer.Option(help="Start from a safetensors file.")] = "",
    twins: Annotated[str, typer.Option(help="Labels-only twins beside: time (as long), steps, or none.")] = "time",
    judge: Annotated[str, typer.Option(help="Keep the arm that is best on unseen labels: auto or none.")] = "auto",
    labels: Annotated[int, typer.Option(help="Keep so many labels a class, hide the rest (to try how few do).")] = 0,
    test: Annotated[float, typer.Option(help="Share held out where there is no test folder.")] = 0.2,
    folds: Annotated[int, typer.Option(help="Train arms so often on parts of the labels: compares, calibrates.")] = 0,
    flip: Annotated[str, typer.Option(help="Mirror images in training: auto (colour only), yes, no.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes that share each batch: one a GPU.", min=1)] = 1,
    cluster: Annotated[str, typer.Option(help="Run the processes by Ray: local, auto or HOST:PORT.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop if any file or row cannot be used.")] = False,
    export: Annotated[bool, typer.Option(help="Write model.onnx.")] = True,
) -> None:
    """Train, measure, explain and export a classifier from a folder of images."""
    from modicum.cli._progress import telling
    from modicum.cli._summary import summary
    from modicum.cli._tables import settings

    with telling(out) as teller:
        teller.say("Loading PyTorch")
        from modicum.engine.fit import fit as run_fit

        run = run_fit(
            data, out, teller, want=want, have=have.replace(",", "+"), other=other, via=via or (), method=method,
            settings=settings(set_), recipe=settings(recipe, "--recipe"), preset=preset, minutes=minutes, steps=steps,
            batch=batch, net=net, side=side, pretrained=pretrained, weights=weights, twins=twins, judge=judge,
            labels=labels, test=test, folds=folds, flip=flip, precision=precision, device=device, devices=devices,
            cluster=cluster, seed=seed, strict=strict, export=export,
        )  # fmt: skip
    for line in summary(run.folder):
        say(line)

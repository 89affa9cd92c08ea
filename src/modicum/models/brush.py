"""The door to text-to-image pipelines of the library diffusers: a sentence in, a picture out.

Weights are safetensors or the pipeline is refused, and no code that lies beside them is run (models/language.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from modicum.core.errors import ModelError
from modicum.models.language import EXTRA, found, opening


def brush(name: str, side: int, steps: int = 50, guidance: float = 9.0) -> Callable[[str, int], np.ndarray]:
    """paint(sentence, seed) -> uint8 (side,side,3); one seed, one picture.

    name: the folder of a pipeline, or hub:NAME.  steps: of denoising.  guidance: how closely the sentence is
    kept to.  ModelError where the pipeline cannot be had, or does not paint pictures of this side.
    """
    place, how = found(name, "composer, the folder of a text-to-image pipeline")
    try:
        from diffusers import AutoPipelineForText2Image
        from diffusers.utils.logging import disable_progress_bar
        from transformers.utils.logging import disable_progress_bar as disable_others
    except ImportError as error:
        raise ModelError(f"diffusers cannot be imported: {error}", where=name, fix=EXTRA) from None
    disable_progress_bar()
    disable_others()
    with opening(name):
        pipeline = AutoPipelineForText2Image.from_pretrained(
            place, use_safetensors=True, low_cpu_mem_usage=False, **how
        )
    pipeline.set_progress_bar_config(disable=True)
    if torch.cuda.is_available():
        pipeline = pipeline.to("cuda")

    def paint(sentence: str, seed: int) -> np.ndarray:
        luck = torch.Generator().manual_seed(seed)
        try:
            out = pipeline(
                sentence, height=side, width=side, num_inference_steps=steps, guidance_scale=guidance, generator=luck,
                output_type="np",
            ).images[0]  # fmt: skip
        except (ValueError, RuntimeError) as error:
            why, fix = " ".join(str(error).split())[:200], "Take another side: most pipelines want a multiple of 8."
            raise ModelError(f"cannot paint {side} x {side} pixels: {why}", where=name, fix=fix) from None
        return np.rint(np.asarray(out, np.float64).clip(0, 1) * 255).astype(np.uint8)

    return paint

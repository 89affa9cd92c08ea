"""`python -m benchmarks.pooling`: our region pooling beside torchvision's, there and back, on a processor.

Four images' maps of 64 channels and 20 x 20 pixels, cells of 7 x 7 with 2 x 2 samples.  Milliseconds: the median of
the runs and their quartiles; ratio: torchvision's time by ours, of runs in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torchvision.ops import roi_align

from modicum.functional.pooling import pooled

CHANNELS, SIDE, STRIDE, CELLS, IMAGES = 64, 20, 8, 7, 4


def boxes(count: int, seed: int = 0) -> torch.Tensor:
    """Boxes (count,4) with corners anywhere."""
    luck = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=luck) * SIDE * STRIDE
    return torch.cat([corners.amin(1), corners.amax(1)], 1)


def both(count: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Ours and torchvision's: forward and backward over `count` boxes of IMAGES images."""
    luck = torch.Generator().manual_seed(1)
    maps = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, generator=luck, requires_grad=True)
    xyxy, image = boxes(count), torch.arange(IMAGES).repeat_interleave(count // IMAGES)
    slope = torch.randn(count, CHANNELS, CELLS, CELLS, generator=luck)
    rois, size = torch.cat([image[:, None].float(), xyxy], 1), (SIDE * STRIDE, SIDE * STRIDE)

    def ours() -> None:
        maps.grad = None
        pooled(maps, xyxy, image, size, CELLS).backward(slope)

    def theirs() -> None:
        maps.grad = None
        roi_align(maps, rois, (CELLS, CELLS), 1 / STRIDE, sampling_ratio=2, aligned=True).backward(slope)

    return ours, theirs


def main() -> None:
    """Print a line a number of threads and boxes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print(f"{'threads':8}{'boxes':>8}{'ours, ms':>26}{'torchvision, ms':>26}{'ratio':>24}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for count in (300, 2000):
            each = np.array([[_took(run) for run in both(count)] for _ in range(runs)])
            shown = [_spread(1000 * v, 1) for v in each.T] + [_spread(each[:, 1] / each[:, 0], 2)]
            print(f"{threads:<8}{count:>8}{shown[0]:>26}{shown[1]:>26}{shown[2]:>24}", flush=True)


def _took(run: Callable[[], None]) -> float:
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _spread(values: np.ndarray, digits: int) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()

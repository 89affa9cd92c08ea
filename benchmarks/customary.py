"""FixMatch as it is usually written by hand: PIL image by image in a torch DataLoader, 32-bit, a plain loop.

The forms of public code: every view concatenated (and interleaved) in one forward, or one forward a view with the weak
one under `no_grad`.  Nothing here is slowed on purpose: workers persist, batches are prefetched, tensors are shared.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

Op = Callable[[Image.Image], Image.Image]


def enhanced(kind: Any) -> Op:
    return lambda image: kind(image).enhance(random.uniform(0.05, 0.95))


def moved(coefficients: Callable[[float], tuple[float, ...]]) -> Op:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, coefficients(random.uniform(-0.3, 0.3)))


POOL: list[Op] = [
    ImageOps.autocontrast, enhanced(ImageEnhance.Brightness), enhanced(ImageEnhance.Color),
    enhanced(ImageEnhance.Contrast), ImageOps.equalize, lambda image: image,
    lambda image: ImageOps.posterize(image, random.randint(4, 8)), lambda image: image.rotate(random.uniform(-30, 30)),
    enhanced(ImageEnhance.Sharpness), moved(lambda v: (1, v, 0, 0, 1, 0)), moved(lambda v: (1, 0, 0, v, 1, 0)),
    lambda image: ImageOps.solarize(image, random.randint(0, 256)),
    moved(lambda v: (1, 0, 32 * v, 0, 1, 0)), moved(lambda v: (1, 0, 0, 0, 1, 32 * v)),
]  # fmt: skip


def rand_augment(image: Image.Image) -> Image.Image:
    """Two operations of the paper's list, then a grey square of half the side."""
    for op in random.choices(POOL, k=2):
        image = op(image)
    x, y = random.randrange(32), random.randrange(32)
    image = image.copy()
    image.paste((127, 127, 127), (max(0, x - 8), max(0, y - 8), min(32, x + 8), min(32, y + 8)))
    return image


CROP = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4, padding_mode="reflect")]
END = [transforms.ToTensor(), transforms.Normalize((0.491, 0.482, 0.447), (0.247, 0.244, 0.262))]
WEAK = transforms.Compose([*CROP, *END])
STRONG = transforms.Compose([*CROP, rand_augment, *END])


class Images(Dataset[Any]):
    """Arrays (N,32,32,3) uint8 and classes (N,); an item is the views of an image, and its class."""

    def __init__(self, arrays: np.ndarray, classes: np.ndarray, views: tuple[Callable[[Image.Image], Tensor], ...]):
        self.arrays, self.classes, self.views = arrays, classes, views

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        image = Image.fromarray(self.arrays[i])
        return *(view(image) for view in self.views), int(self.classes[i])


def endless(images: Images, batch: int, steps: int) -> Iterator[Any]:
    """One worker process; two loaders make the two workers."""
    sampler = RandomSampler(images, replacement=True, num_samples=batch * steps)
    return iter(DataLoader(images, batch, sampler=sampler, num_workers=1, drop_last=True))


def interleave(x: Tensor, size: int) -> Tensor:
    return x.reshape(-1, size, *x.shape[1:]).transpose(0, 1).reshape(-1, *x.shape[1:])


def de_interleave(x: Tensor, size: int) -> Tensor:
    return x.reshape(size, -1, *x.shape[1:]).transpose(0, 1).reshape(-1, *x.shape[1:])


class ModelEMA:
    """The average of the weights, tensor by tensor."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.net, self.decay = copy.deepcopy(model).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for a, b in zip(self.net.parameters(), model.parameters(), strict=True):
            a.mul_(self.decay).add_(b, alpha=1 - self.decay)
        for a, b in zip(self.net.buffers(), model.buffers(), strict=True):
            a.copy_(b)


def train(
    model: nn.Module, arrays: np.ndarray, classes: np.ndarray, labelled: np.ndarray, steps: int, together: bool,
    half: bool, batch: int = 64, mu: int = 7,
) -> list[tuple[float, float]]:  # fmt: skip
    """FixMatch for some steps; -> the clock and this process's CPU seconds after each.

    together: one forward of all.  half: under bf16 autocast.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=0.03, momentum=0.9, nesterov=True)
    ema, clock = ModelEMA(model), []
    known = endless(Images(arrays[labelled], classes[labelled], (WEAK,)), batch, steps)
    others = endless(Images(arrays, classes, (WEAK, STRONG)), mu * batch, steps)
    model.train()
    for _ in range(steps):
        x, y = next(known)
        weak, strong, _ = next(others)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            a, b, c = forward(model, x, weak, strong, together)
        confidence, target = b.detach().float().softmax(1).max(1)
        guessed = F.cross_entropy(c.float(), target, reduction="none") * (confidence >= 0.95)
        loss = F.cross_entropy(a.float(), y) + guessed.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ema.update(model)
        clock.append((time.perf_counter(), time.process_time()))
    return clock


def forward(model: nn.Module, x: Tensor, weak: Tensor, strong: Tensor, together: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the labelled, the weak and the strong views."""
    if together:
        parts = (2 * len(weak)) // len(x) + 1
        out = de_interleave(model(interleave(torch.cat([x, weak, strong]), parts)).logits, parts)
        a, b, c = out.split([len(x), len(weak), len(strong)])
        return a, b, c
    a, c = model(x).logits, model(strong).logits
    with torch.no_grad():
        b = model(weak).logits
    return a, b, c

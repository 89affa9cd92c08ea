"""What processes know of each other: three of them, with unequal shares, against plain arithmetic on the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modicum.nn import ranks

WHOLE = torch.arange(14, dtype=torch.float64).reshape(7, 2) ** 2
SHARES = (3, 0, 4)


def rank(r: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=r, world_size=3)
    part = WHOLE.split(SHARES)[r]
    net = nn.Linear(2, 2, bias=False).to(memory_format=torch.preserve_format)
    net.register_buffer("seen", torch.tensor(r, dtype=torch.int64))
    nn.init.constant_(net.weight, float(r + 1))
    ranks.same(net)
    with ranks.apart():
        alone = torch.tensor([ranks.world_size(), ranks.rank(), ranks.everyone(part).numel()])
    torch.save(
        {
            "numbers": torch.tensor([ranks.world_size(), ranks.rank()]), "alone": alone,
            "everyone": ranks.everyone(part), "mine": ranks.mine(3 * WHOLE[:, 0], ranks.shares(part)),
            "flags": ranks.everyone(torch.ones(1 + r, dtype=torch.bool)),
            "mean": ranks.world_mean(part), "added": ranks.added(part.sum(0)),
            "any": torch.tensor([ranks.anyone(r == 1), ranks.anyone(False)]),
            "first": torch.tensor(ranks.of_first(0.1 + r), dtype=torch.float64),
            "weight": net.weight.detach(), "seen": net.seen,
        },
        f"{folder}/{r}.pt",
    )  # fmt: skip
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder: Path = tmp_path_factory.mktemp("three")
    torch.multiprocessing.spawn(rank, (str(folder),), nprocs=3)
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in range(3)]


@pytest.mark.xdist_group("ranks")
def test_three_processes_know_the_whole(found: list[dict[str, Tensor]]) -> None:
    for r, one in enumerate(found):
        assert one["numbers"].tolist() == [3, r] and one["alone"].tolist() == [1, 0, 2 * SHARES[r]]
        assert one["everyone"].equal(WHOLE) and one["flags"].equal(torch.ones(6, dtype=torch.bool))
        assert one["mine"].equal(3 * WHOLE[:, 0].split(SHARES)[r])
        torch.testing.assert_close(one["mean"], WHOLE.mean(0))
        assert one["added"].equal(WHOLE.sum(0))
        assert one["any"].tolist() == [True, False] and one["first"].item() == 0.1
        assert one["weight"].equal(torch.ones(2, 2)) and one["seen"].item() == 0


def test_one_process_is_the_whole() -> None:
    x = WHOLE.clone().requires_grad_()
    assert ranks.world_size() == 1 and ranks.rank() == 0
    assert ranks.everyone(x) is x and ranks.mine(x, ranks.shares(x)).equal(x) and ranks.added(x) is x
    assert ranks.world_mean(x).equal(WHOLE.mean(0)) and not ranks.world_mean(x).requires_grad
    assert ranks.anyone(True) and not ranks.anyone(False) and ranks.of_first(0.3) == 0.3

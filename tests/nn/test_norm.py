"""Batch norm against torch's own, and two processes against one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modicum.core.net import guessing
from modicum.nn.norm import BatchNorm1d, BatchNorm2d, BatchNormAct2d, convert


def nets(**options: object) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    """Ours and torch's with the same random weights."""
    torch.manual_seed(1)
    theirs = nn.BatchNorm2d(5, **options)  # type: ignore[arg-type]
    if theirs.weight is not None:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    ours = BatchNorm2d(5, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_one_process_gives_torchs_bits(options: dict[str, object]) -> None:
    ours, theirs = nets(**options)
    for training in (True, True, False):
        x = torch.randn(4, 5, 3, 3) * 3 + 2
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ya, yb = ours.train(training)(a), theirs.train(training)(b)
        ya.square().sum().backward()
        yb.square().sum().backward()
        assert torch.equal(ya, yb) and torch.equal(a.grad, b.grad)
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4)])
def test_features_and_tokens_too(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    ours, theirs, x = BatchNorm1d(5), nn.BatchNorm1d(5), torch.randn(shape) * 3 + 2
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.running_var, theirs.running_var)


def test_one_value_a_channel_uses_the_running_statistics() -> None:
    ours, theirs = nets()
    ours(torch.randn(8, 5, 4, 4) + 1)
    theirs.load_state_dict(ours.state_dict())
    before, x = copy.deepcopy(ours.state_dict()), torch.randn(1, 5, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        theirs(x)
    assert torch.equal(ours(x), theirs.eval()(x))
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


def test_momentum_zero_moves_nothing_and_normalises_by_the_batch() -> None:
    ours, theirs = nets()
    before, x = copy.deepcopy(ours.state_dict()), torch.randn(4, 5, 3, 3) * 2 + 1
    with guessing(ours):
        y = ours(x)
    assert torch.equal(y, theirs(x))
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    assert ours.momentum == 0.1 and ours.num_batches_tracked == 0


def test_convert_keeps_objects_names_and_outputs() -> None:
    from timm.layers import BatchNormAct2d as Theirs

    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), Theirs(5, act_layer=nn.SiLU), nn.BatchNorm1d(5)).eval()
    before, keys, parts, x = net[:3](x0 := torch.randn(2, 3, 4, 4)), list(net.state_dict()), list(net), x0
    assert convert(net) is net and list(net.state_dict()) == keys and all(a is b for a, b in zip(net, parts))
    assert [type(m) for m in net] == [nn.Conv2d, BatchNorm2d, BatchNormAct2d, BatchNorm1d]
    assert torch.equal(net[:3](x), before)
    assert net[:3].train()(torch.randn(1, 3, 1, 1)).shape == (1, 5, 1, 1)


def small(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    first = (nn.Conv2d(2, 4, 3), BatchNorm2d(4), nn.ReLU())
    last = (nn.Flatten(2), BatchNorm1d(3), nn.Unflatten(2, (3, 3)))
    return nn.Sequential(*first, nn.Conv2d(4, 3, 3), BatchNorm2d(3, momentum=None), *last).to(dtype)


def batch(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(2)
    far = 0.5 if dtype is torch.bfloat16 else 30  # far from 0, where sums of squares would cancel
    return (torch.randn(7, 2, 7, 7, dtype=torch.float64) * 2 + far).to(dtype)


def step(net: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Two train steps without an optimiser: outputs, gradients of input and weights, statistics."""
    net(x)
    x = x.clone().requires_grad_()
    y = net(x)
    (y.sigmoid() * weight).sum().backward()
    grads = {f"grad {n}": p.grad for n, p in net.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, **grads, **{n: b.clone() for n, b in net.named_buffers()}}  # type: ignore[dict-item]


SPLITS = {"even": (0, 3, 7), "one empty": (0, 0, 7)}


def rank(r: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=r, world_size=2)
    out = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for name, cuts in SPLITS.items():
            x = batch(dtype)[cuts[r] : cuts[r + 1]]
            out[f"{dtype} {name}"] = step(small(dtype), x, weights(dtype)[cuts[r] : cuts[r + 1]])
    one, ours = torch.ones(1 - r, 3, 1, 1), BatchNorm2d(3)
    out["a batch of one"] = {"y": ours(one), "mean": ours.running_mean}
    flat = {f"{case}/{k}": v.contiguous() for case, values in out.items() for k, v in values.items()}
    from safetensors.torch import save_file

    save_file({k: v.clone() for k, v in flat.items()}, f"{folder}/{r}.safetensors")
    torch.distributed.destroy_process_group()


def weights(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(7, 3, 3, 3, dtype=torch.float64).to(dtype)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    from safetensors.torch import load_file

    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank, (str(folder),), nprocs=2)
    return [load_file(folder / f"{r}.safetensors") for r in range(2)]


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("split", SPLITS)
def test_two_ranks_equal_one_process(
    ranks: list[dict[str, Tensor]], dtype: torch.dtype, tolerance: float, split: str
) -> None:
    whole = step(small(dtype), batch(dtype), weights(dtype))
    parts = [{k.partition("/")[2]: v for k, v in r.items() if k.startswith(f"{dtype} {split}/")} for r in ranks]
    assert parts[0].keys() == parts[1].keys() == whole.keys()
    for name, value in whole.items():
        a, b = parts[0][name], parts[1][name]
        if dtype is torch.bfloat16 and (name == "dx" or name.startswith("grad")):
            continue  # one flipped ReLU is worth more than any tolerance
        if name in ("y", "dx"):
            found = torch.cat([a, b])
        elif name.startswith("grad"):  # the engine adds them up
            found = a + b
        else:
            assert torch.equal(a, b)
            found = a
        # A bias before a batch norm has gradient 0: compare on the scale of the largest.
        scale = 1 + value.double().abs().max()
        assert found.dtype == value.dtype and (found.double() - value.double()).abs().max() <= tolerance * scale, name


@pytest.mark.xdist_group("ranks")
def test_one_value_over_all_ranks(ranks: list[dict[str, Tensor]]) -> None:
    assert torch.allclose(ranks[0]["a batch of one/y"], torch.ones(1, 3, 1, 1), atol=1e-4)
    assert all(not r["a batch of one/mean"].any() for r in ranks)

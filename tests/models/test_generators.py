"""The doors to language models and text-to-image pipelines: tiny ones of random weights; pickles are refused."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from modicum.core.errors import ModelError
from modicum.core.method import Doors
from modicum.core.registry import make
from modicum.models.brush import brush
from modicum.models.language import language

NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of letters that goes on with any, a full stop now and then."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    letters = sorted({*string.ascii_letters, *" .\n\t"})
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({c: i for i, c in enumerate(["<end>", *letters])}, unk_token="<end>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    words.decoder = tokenizers.decoders.Fuse()
    home = tmp_path_factory.mktemp("speaker")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<end>")
    fast.save_pretrained(home)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = {"n_positions": 64, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=len(letters) + 1, **size))
    model.save_pretrained(home)
    return home


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A latent diffusion pipeline of a few thousand random weights: as safetensors, and with pickles."""
    pytest.importorskip("transformers")
    d = pytest.importorskip("diffusers")
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in string.ascii_lowercase:
        vocab |= {letter: len(vocab), f"{letter}</w>": len(vocab) + 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocab), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=16, projection_dim=8, bos_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip
        unet = d.UNet2DConditionModel(
            sample_size=8, block_out_channels=(4, 8), layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=2,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        vae = d.AutoencoderKL(
            block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
            up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2, sample_size=16,
        )  # fmt: skip
    whole = d.StableDiffusionPipeline(
        vae=vae, text_encoder=text, unet=unet, scheduler=d.DDIMScheduler(steps_offset=1, clip_sample=False),
        tokenizer=CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    homes = tmp_path_factory.mktemp("safe"), tmp_path_factory.mktemp("pickled")
    for home, safe in zip(homes, (True, False)):
        whole.save_pretrained(home, safe_serialization=safe)
    yield homes


def doors(**given: object) -> Doors:
    def shut(*_: object) -> None:
        raise AssertionError("a door that nobody named was opened")

    return Doors(**{**dict.fromkeys(("language", "brush", "cutouts", "judge"), shut), **given})  # type: ignore[arg-type]


def test_a_model_goes_on_by_its_seed_alone(speaker: Path) -> None:
    write, before = language(str(speaker)), torch.get_rng_state()
    said = [write("A photo of cat", 15, seed) for seed in range(8)]
    assert said == [write("A photo of cat", 15, seed) for seed in range(8)] and len(set(said)) > 4
    assert max(map(len, said)) == 15, "one letter is a token"
    assert torch.equal(torch.get_rng_state(), before)
    assert len(write("A photo of cat", 4, 1)) <= 4


def test_sentences_of_a_model_are_cut_where_the_paper_cuts_and_come_once(speaker: Path) -> None:
    told = []

    def watched(name: str) -> object:
        write = language(name)

        def tell(start: str, words: int, seed: int) -> str:
            told.append((start, words, write(start, words, seed)))
            return str(told[-1][2])

        return tell

    method = make("imaginary-images", {"describe": str(speaker), "paint": "brush", "side": 16})
    grey = lambda *_: lambda sentence, seed: np.zeros((16, 16, 3), np.uint8)  # noqa: E731
    found = [*method.imagine(NAMES, 12, np.random.default_rng(0), doors(language=watched, brush=grey))]
    captions = [p.caption for p in found]
    for start, words, raw in told:
        assert start in ("A photo of cat", "A photo of dog") and words == 15
        kept = raw
        for end in ".\n\t":
            kept = kept.split(end)[0]
        assert (start + kept).rstrip() in captions
    assert len(set(captions)) == 24 and all(c.startswith("A photo of cat") for c in captions[:12])
    assert any(set(raw) & set(".\n\t") for *_, raw in told), "the model was to end a sentence somewhere"


def test_a_pipeline_paints_by_its_seed_alone(painter: tuple[Path, Path]) -> None:
    paint, before = brush(str(painter[0]), 16, 2, 9.0), torch.get_rng_state()
    one, again, other = (paint("A photo of a cat", seed) for seed in (1, 1, 2))
    assert one.shape == (16, 16, 3) and one.dtype == np.uint8
    assert (one == again).all() and (one != other).any() and torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ModelError, match="17 x 17"):
        brush(str(painter[0]), 17, 1)("A cat", 0)


def test_what_is_a_pickle_is_refused_before_a_library_sees_it(painter: tuple[Path, Path], speaker: Path) -> None:
    with pytest.raises(ModelError, match="pickle"):
        brush(str(painter[1]), 16, 1)
    file = speaker / "model.safetensors"
    moved = file.rename(speaker / "pytorch_model.bin")
    try:
        with pytest.raises(ModelError, match="pickle"):
            language(str(speaker))
        moved.rename(speaker / "model.bin.txt")
        with pytest.raises(ModelError, match="cannot be opened"):  # no weights at all
            language(str(speaker))
    finally:
        next(p for p in (moved, speaker / "model.bin.txt") if p.exists()).rename(file)


def test_code_beside_a_model_is_not_run(speaker: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for file in speaker.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ModelError, match="cannot be opened"):
        language(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_no_folder_goes_nowhere() -> None:
    for door in (language, lambda name: brush(name, 16)):
        with pytest.raises(ModelError, match="no such folder") as caught:
            door("grammer")
        assert "hub:NAME" in str(caught.value)


def test_a_name_of_the_hub_is_looked_for_in_the_cache_alone_when_offline() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="cannot be opened"):
        language("hub:nobody/no-such-model")

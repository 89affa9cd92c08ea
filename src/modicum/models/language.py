"""The door to causal language models of the library transformers: how one goes on from a few words.

Weights are safetensors or the model is refused, and no code that lies beside them is run.  A folder is read as it lies;
`hub:NAME` is looked for in the hub's cache and, unless HF_HUB_OFFLINE is set, on the hub: nothing else goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from modicum.core.errors import ModelError

EXTRA = "Install what it needs: pip install 'modicum[imagine]'."
HUB = "hub:"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def language(name: str) -> Callable[[str, int, int], str]:
    """write(start, words, seed) -> what a model says after `start`, at most so many tokens; one seed, one answer.

    name: the folder of a causal language model, or hub:NAME.  ModelError where it cannot be had.
    """
    place, how = found(name, "template, grammar, the folder of a language model")
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ModelError(f"transformers cannot be imported: {error}", where=name, fix=EXTRA) from None
    disable_progress_bar()
    with opening(name):
        words_of = AutoTokenizer.from_pretrained(place, **how)
        model = AutoModelForCausalLM.from_pretrained(place, use_safetensors=True, **how).eval()
    end = words_of.eos_token_id

    def write(start: str, words: int, seed: int) -> str:
        given = words_of(start, return_tensors="pt")
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            out = model.generate(
                given["input_ids"], attention_mask=given["attention_mask"], do_sample=True, max_new_tokens=words,
                pad_token_id=0 if end is None else end,
            )  # fmt: skip
        return str(words_of.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True))

    return write


def found(name: str, known: str) -> tuple[str, dict[str, bool]]:
    """What a library calls a model, and how it may be opened.  known: what else a person could have meant, in words.

    ModelError where there is no such folder, or a part of the model has weights, but none as safetensors.
    """
    folder, hub = Path(name), name.startswith(HUB)
    if not hub and not folder.is_dir():
        fix = f"Give {known}, or {HUB}NAME for one that the hub has."
        raise ModelError("there is no such folder", where=name, fix=fix)
    for part in (() if hub else (folder, *(p for p in folder.iterdir() if p.is_dir()))):
        files = [p for p in part.iterdir() if p.is_file()]
        bad = next((p for p in files if p.suffix in PICKLED), None)
        if bad is not None and not any(p.suffix == ".safetensors" for p in files):
            fix = "Convert it with the library it is from: save_pretrained(..., safe_serialization=True)."
            raise ModelError("its weights are a pickle, which may run code: nothing was loaded", where=bad, fix=fix)
    return name.removeprefix(HUB) if hub else name, {"trust_remote_code": False, "local_files_only": not hub}


@contextmanager
def opening(name: str) -> Iterator[None]:
    """Inside, whatever a library raises about a model of this name is a ModelError in a few words."""
    try:
        yield
    except Exception as error:  # libraries raise as they please
        why = " ".join(str(error).split())[:200]
        fix = "Give the folder of a model whose weights are safetensors, or a name that the hub knows."
        raise ModelError(f"cannot be opened: {why}", where=name, fix=fix) from None

"""Near-duplicates kept between scans: they follow from the sketches alone, and finding them again takes seconds."""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL

from modicum.data import duplicates, hashes
from modicum.data.duplicates import Near, find
from modicum.data.looks import Looks
from modicum.data.making import file_for

_FEWEST = 1000  # images below which searching is as quick as reading


def near(seen: Looks, home: Path | None) -> Near:
    """The near-duplicates of a set that was looked at, from `home` where they were found before, else kept there.

    They are known by the contents of all images in their order, by Pillow's version, and by the code that sketches and
    compares.  Where nothing can be kept, they are found again the next time; looks.look has warned of it.
    """
    if home is None or len(seen.facts) < _FEWEST:
        return find(seen.sketches)
    place = home / f"near-{_key(seen)}.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(place, allow_pickle=False) as kept:
        ends = kept["ends"]
        chains = np.split(kept["chains"], ends[:-1]) if len(ends) else []
        return Near(kept["group"], kept["pairs"], kept["likeness"], float(kept["threshold"]), chains)
    found = find(seen.sketches)
    file = io.BytesIO()
    flat = np.concatenate(found.chains) if found.chains else np.zeros(0, np.int64)
    ends = np.cumsum([len(c) for c in found.chains])
    np.savez(
        file, group=found.group, pairs=found.pairs, likeness=found.likeness, threshold=np.float64(found.threshold),
        chains=flat, ends=ends,
    )  # fmt: skip
    with suppress(OSError), file_for(place, file.tell()) as making:
        making.write_bytes(file.getvalue())
    return found


def _key(seen: Looks) -> str:
    digest = hashlib.blake2b(PIL.__version__.encode(), digest_size=12)
    for code in (duplicates, hashes):
        digest.update(Path(str(code.__file__)).read_bytes())
    digest.update(np.ascontiguousarray(seen.facts["hash"]).data)
    return digest.hexdigest()

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bonemonai.analysis.labelled_slabs import LabelledSlab, Neighbours, measure_pieces, number_pieces
from bonemonai.analysis.slab_arrays import Arrays, SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.errors import ResumeError
from tests.analysis.stopping_volume import StoppingVolume

MASK = np.random.default_rng(4).random((9, 8, 7)) < 0.3
SLABS = [slice(start, min(start + 2, 9)) for start in range(0, 9, 2)]


def sizes(slab: LabelledSlab) -> Arrays:
    return {"sizes": np.bincount(slab.labels.ravel(), minlength=slab.pieces + 1)[1:]}


def measure(volume: StoppingVolume, folder: Path | None = None) -> list[Arrays]:
    kept = None if folder is None else SlabArrays(SlabRecord(folder / "r.json", {}), "pieces")
    return measure_pieces(volume.marked, SLABS, sizes, neighbours=26, kept=kept)


def same(one: list[Arrays], other: list[Arrays]) -> bool:
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 0.9), st.integers(1, 9), st.sampled_from([6, 26]))
def test_numbers_are_scipys(seed: int, share: float, planes: int, neighbours: Neighbours) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 7)) < share
    slabs = [slice(start, min(start + planes, 9)) for start in range(0, 9, planes)]
    structure = ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3)
    found = measure_pieces(lambda start, stop: mask[start:stop], slabs, sizes, neighbours=neighbours)
    number, belongs = number_pieces(found)
    whole, count = ndimage.label(mask, structure)
    assert number == count
    assert sum(len(pieces) for pieces in belongs) == sum(int(arrays["count"]) for arrays in found)
    numbered = np.concatenate(
        [
            np.concatenate([[-1], pieces])[ndimage.label(mask[slab], structure)[0]]
            for slab, pieces in zip(slabs, belongs, strict=True)
        ]
    )
    # the same pieces, whatever their numbers: each of one goes with one of the other
    assert len(np.unique(np.stack([numbered[mask], whole[mask]]), axis=1).T) == count


@pytest.mark.parametrize("stop", range(6))
def test_finished_slabs_are_not_read_again(stop: int, tmp_path: Path) -> None:
    stopped = StoppingVolume(MASK, stop)
    if stop < 5:
        with pytest.raises(KeyboardInterrupt):
            measure(stopped, tmp_path)
    else:
        measure(stopped, tmp_path)
    # disk holds one last plane, of the slab that the next one is joined to
    planes = [file.name for file in (tmp_path / "r.json.d").glob("*last plane*")] if stop else []
    assert planes == ([f"pieces {2 * stop - 2}-{2 * stop} last plane.npz"] if 0 < stop < 5 else [])
    resumed = StoppingVolume(MASK)
    assert same(measure(resumed, tmp_path), measure(StoppingVolume(MASK)))
    assert resumed.reads == [0, 2, 4, 6, 8][stop:]
    assert len(list((tmp_path / "r.json.d").iterdir())) == 5


@pytest.mark.parametrize("writes", range(9))
def test_stopped_at_any_write_it_goes_on(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = np.savez_compressed, []

    def failing(stream: object, **arrays: np.ndarray) -> None:
        calls.append(arrays)
        if len(calls) > writes:
            raise KeyboardInterrupt
        write(stream, **arrays)

    monkeypatch.setattr(np, "savez_compressed", failing)
    with pytest.raises(KeyboardInterrupt):
        measure(StoppingVolume(MASK), tmp_path)
    monkeypatch.setattr(np, "savez_compressed", write)
    resumed = StoppingVolume(MASK)
    assert same(measure(resumed, tmp_path), measure(StoppingVolume(MASK)))
    # of each slab the last plane is written first
    assert resumed.reads == [0, 2, 4, 6, 8][writes // 2 :]
    assert sorted(file.name for file in (tmp_path / "r.json.d").iterdir()) == [
        f"pieces {slab.start}-{slab.stop} arrays.npz" for slab in SLABS
    ]


def test_damaged_file_is_refused_and_its_slab_found_again_once_it_is_deleted(tmp_path: Path) -> None:
    measure(StoppingVolume(MASK), tmp_path)
    file = tmp_path / "r.json.d" / "pieces 4-6 arrays.npz"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ResumeError, match=r"pieces 4-6 arrays\.npz: is damaged; delete it"):
        measure(StoppingVolume(MASK), tmp_path)
    file.unlink()
    resumed = StoppingVolume(MASK)
    assert same(measure(resumed, tmp_path), measure(StoppingVolume(MASK)))
    # and the slab before, of which the last plane is gone
    assert resumed.reads == [2, 4]
    assert not list((tmp_path / "r.json.d").glob("*last plane*"))


def test_killed_while_a_file_is_written_it_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from bonemonai.analysis.connected_pieces import count_pieces\n"
        "from bonemonai.analysis.slab_arrays import SlabArrays\n"
        "from bonemonai.analysis.slab_sums import SlabRecord\n"
        "write, calls = np.savez_compressed, []\n"
        "def killed(stream, **arrays):\n"
        "    calls.append(arrays)\n"
        "    if len(calls) == 4:\n"
        "        stream.write(b'PK half')\n"
        "        stream.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(stream, **arrays)\n"
        "np.savez_compressed = killed\n"
        "mask = np.random.default_rng(4).random((8, 8, 7)) < 0.1\n"
        "slabs = [slice(n, n + 2) for n in range(0, 8, 2)]\n"
        "kept = SlabArrays(SlabRecord(Path(sys.argv[1]), {}), 'pieces')\n"
        "print(count_pieces(lambda a, b: mask[a:b], slabs, 8, neighbours=26, kept=kept).number)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "r.json")], capture_output=True, text=True, check=False
        )
        for _ in range(3)
    ]
    # each is killed with a last plane on disk and the rest of its slab half-written
    assert [run.returncode for run in runs] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    mask = np.random.default_rng(4).random((8, 8, 7)) < 0.1
    assert int(runs[-1].stdout) == ndimage.label(mask, np.ones((3, 3, 3)))[1]
    assert sorted(file.name for file in (tmp_path / "r.json.d").iterdir()) == [
        f"pieces {start}-{start + 2} arrays.npz" for start in range(0, 8, 2)
    ]

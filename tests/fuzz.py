"""Files made wrong at random, and what a reader may make of them: the right volume, or a refusal."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
import tifffile
import zarr
from pydicom.uid import RLELossless

from bonemonai.data import OmeZarrStore, open_volume
from bonemonai.data.manifest import read_manifest
from bonemonai.errors import BonemonaiError
from tests.dicom_files import write_enhanced, write_series
from tests.scanco_files import write_isq

SECONDS = 5
MEMORY = 2**30  # bytes beyond what the process holds
SHAPE = (6, 17, 19)
VALUES = np.random.default_rng(1).integers(-900, 900, SHAPE).astype(np.int16)

# ways that the format carries enough to notice: a checksum over every byte
CHECKSUMMED = ("nifti.nii.gz", "ome.zarr", "checked.h5")


class Hang(BaseException):
    """Nothing may catch this by catching errors."""


def write_all(folder: Path) -> list[str]:
    """Write a right file of every kind; return their names."""
    write_series(folder / "dicom", VALUES)
    write_series(folder / "dicom-rle", VALUES, edit=lambda ds, _: ds.compress(RLELossless, generate_instance_uid=False))
    write_enhanced(folder / "enhanced.dcm", VALUES)
    size: dict[str, Any] = {"resolution": (6250, 6250), "resolutionunit": 3, "photometric": "minisblack"}
    tifffile.imwrite(folder / "plain.tif", VALUES, **size)
    tifffile.imwrite(folder / "tiled.tif", VALUES, tile=(16, 16), compression="zlib", **size)
    tifffile.imwrite(folder / "big.btf", VALUES, bigtiff=True, **size)
    tifffile.imwrite(
        folder / "imagej.tif",
        VALUES,
        imagej=True,
        resolution=(1, 1),
        metadata={"axes": "ZYX", "spacing": 1, "unit": "um"},
    )
    tifffile.imwrite(folder / "ome.ome.tif", VALUES, metadata={"axes": "ZYX"}, photometric="minisblack")
    (folder / "tiff").mkdir()
    for plane, values in enumerate(VALUES):
        tifffile.imwrite(folder / "tiff" / f"s_{plane:03d}.tif", values, **size)
    for name in ("nifti.nii", "nifti.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(VALUES.T, np.diag([-1.0, -1, 2, 1])), folder / name)
    zarr.save_array(folder / "v3.zarr", VALUES)
    zarr.save_array(folder / "v2.zarr", VALUES, zarr_format=2)
    store = OmeZarrStore(folder / "ome.zarr", shape=SHAPE, dtype="int16", voxel_size_um=(1, 1, 1), chunks=(2, 8, 8))
    store.create()[:] = VALUES
    store.finish({})
    image = sitk.GetImageFromArray(VALUES)
    for name, compressed in (("a.mha", False), ("b.mha", True), ("a.nrrd", False), ("b.nrrd", True)):
        sitk.WriteImage(image, str(folder / name), compressed)
    with h5py.File(folder / "plain.h5", "w") as file:
        file["/entry/data/data"] = VALUES
    with h5py.File(folder / "checked.h5", "w") as file:
        file.create_dataset("ct", data=VALUES, chunks=(2, 17, 19), fletcher32=True)
    write_isq(folder / "scan.isq", VALUES, slope=None)
    for number in range(4):
        (folder / f"image{number}").touch()
    (folder / "manifest.csv").write_text(
        "patient,image,label,split\n007,image0,a,train\n7,image1,b,train\nP3,image2,a,val\nP4,image3,b,test\n"
    )
    items = [{"image": f"image{n}", "label": "a", "patient": f"P{n}"} for n in range(4)]
    (folder / "datalist.json").write_text(json.dumps({"training": items[:2], "validation": items[2:]}))
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("image") or path.suffix)


@dataclass(frozen=True)
class Case:
    """One mutation; the same for the same seed and number."""

    seed: int
    number: int
    name: str

    @property
    def rng(self) -> random.Random:
        """Its random numbers."""
        return random.Random(f"{self.seed} {self.number}")


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def flip_bytes(path: Path, rng: random.Random) -> str:
    file = rng.choice(files_of(path))
    content = bytearray(file.read_bytes())
    # headers are small beside pixels: half of the flips go there
    reach = len(content) if rng.random() < 0.5 else min(len(content), 600)
    for _ in range(rng.choice((1, 1, 3, 20))):
        content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return file.name


def truncate(path: Path, rng: random.Random) -> None:
    file = rng.choice(files_of(path))
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def append(path: Path, rng: random.Random) -> None:
    with open(rng.choice(files_of(path)), "ab") as stream:
        stream.write(rng.randbytes(rng.choice((1, 100, 5000))))


def overwrite_run(path: Path, rng: random.Random) -> str:
    file = rng.choice(files_of(path))
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content))
    length = rng.choice((4, 16, 200))
    content[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    file.write_bytes(content)
    return file.name


def remove_file(path: Path, rng: random.Random) -> None:
    rng.choice(files_of(path)).unlink()


def copy_file(path: Path, rng: random.Random) -> None:
    file = rng.choice(files_of(path))
    shutil.copy(file, file.with_name(f"copy_of_{file.name}" if rng.random() < 0.5 else f"{file.stem}9{file.suffix}"))


def shuffle_names(path: Path, rng: random.Random) -> None:
    folder = rng.choice(files_of(path)).parent
    files = [file for file in files_of(path) if file.parent == folder]
    names = [file.name for file in files]
    rng.shuffle(names)
    for index, file in enumerate(files):
        file.rename(file.with_name(f"moving{index}"))
    for index, (file, name) in enumerate(zip(files, names, strict=True)):
        file.with_name(f"moving{index}").rename(file.with_name(name))


EDITABLE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsAllocated",
            "BitsStored", "SamplesPerPixel", "PatientID", "Modality", "SeriesInstanceUID", "NumberOfFrames",
            "PhotometricInterpretation", "SliceThickness", "InstanceNumber", "SOPClassUID", "FrameOfReferenceUID",
            "RescaleType", "HighBit")  # fmt: skip


def edit_tag(path: Path, rng: random.Random) -> None:
    file = rng.choice(files_of(path))
    dataset = pydicom.dcmread(file)
    name = rng.choice(EDITABLE)
    if rng.random() < 0.3:
        dataset.pop(pydicom.datadict.tag_for_keyword(name), None)
    else:
        value = rng.choice((0, 1, 2, 16, 65535, 512))
        numbers = name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        old = dataset.get(name)
        if numbers and old is not None:
            new = [float(v) for v in old]
            new[rng.randrange(len(new))] += rng.choice((-1.0, 0.1, 0.5, 3.0))
            setattr(dataset, name, new)
        elif isinstance(old, int):
            setattr(dataset, name, value)
        else:
            setattr(dataset, name, str(value))
    dataset.save_as(file)


def edit_text(path: Path, rng: random.Random) -> None:
    """Change a word of a text file: a manifest, or Zarr's metadata."""
    texts = [file for file in files_of(path) if file.suffix in (".csv", ".json", "") and file.stat().st_size < 5000]
    file = rng.choice(texts or files_of(path))
    text = file.read_bytes().decode("latin-1")
    for separator in rng.sample((",", "\n", '"', ":", "0", "1", "image", "train"), 8):
        if separator in text:
            parts = text.split(separator)
            at = rng.randrange(1, len(parts))
            new = rng.choice(("", separator * 2, "-1", "99999999999", "\x00", "null", "../", "é"))
            text = separator.join(parts[:at]) + new + separator.join(parts[at:])
            break
    file.write_bytes(text.encode("latin-1"))


ANY: tuple[Callable[[Path, random.Random], str | None], ...] = (flip_bytes, truncate, append, overwrite_run)
IN_FOLDERS = (remove_file, copy_file, shuffle_names)


def mutate(case: Case, path: Path) -> str:
    """Make a file wrong; return how."""
    rng = case.rng
    ways = list(ANY)
    if path.is_dir():
        ways += IN_FOLDERS
    if case.name.startswith("dicom"):
        ways += [edit_tag, edit_tag, edit_tag]
    if case.name.endswith((".csv", ".json", ".zarr")):
        ways += [edit_text, edit_text]
    way = rng.choice(ways)
    touched = way(path, rng)
    return f"{way.__name__} {touched or ''}".strip()


def must_be_right_or_refused(case: Case, how: str) -> bool:
    """Whether the format carries enough to notice the mutation."""
    if case.name.endswith((".csv", ".json")):
        return False  # a manifest says what it says
    if how in ("truncate", "append"):
        return True
    if how in ("remove_file", "copy_file"):
        # the first and last of a stack are not missed by what is left
        return not case.name.startswith(("dicom", "tiff"))
    if how in ("shuffle_names", "edit_tag"):
        return case.name.startswith("dicom") and how == "shuffle_names"
    # Zarr's metadata are plain text
    return case.name in CHECKSUMMED and not how.endswith(("edit_text", "zarr.json"))


@contextmanager
def limited() -> Iterator[None]:
    """A limit on time and memory."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def read(path: Path) -> tuple[Any, ...]:
    """What a user gets from a file: all that must be right."""
    if path.suffix in (".csv", ".json"):
        table = read_manifest(path, label_is_path=False)
        assert all(isinstance(value, str) for value in table.to_numpy().ravel()), "ids and labels are text"
        return tuple(map(tuple, table.to_numpy()))
    volume = open_volume(path)
    affine = None if volume.affine_lps is None else volume.affine_lps.tobytes()
    return volume.shape, volume.units, affine, volume.read().astype(np.float64).tobytes()


read_right = lru_cache(read)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether a refusal comes of the limit on memory, which no reader should come near with these files."""
    while error is not None:
        said = str(error).lower()
        if isinstance(error, MemoryError) or any(f"{word} to allocate" in said for word in ("unable", "failed")):
            return True
        error = error.__cause__ or error.__context__
    return False


def judge(case: Case, right: Path, record: Path) -> tuple[str, str]:
    """Mutate a copy and read it; return what came of it, and how it was made wrong."""
    record.write_text(f"{case}")  # should this process die
    with tempfile.TemporaryDirectory() as folder:
        if case.name.endswith((".csv", ".json")):
            for image in right.parent.glob("image?"):
                (Path(folder) / image.name).touch()
        path = Path(folder) / case.name
        if right.is_dir():
            shutil.copytree(right, path)
        else:
            shutil.copy(right, path)
        how = mutate(case, path)
        expected = read_right(right)
        try:
            with limited():
                found = read(path)
        except BonemonaiError as refusal:
            if out_of_memory(refusal):
                # the limit is this test's; a user's machine would have given what was asked for
                return f"asked for more than {MEMORY} bytes: {refusal}", how
            return ("refused" if "\n" not in str(refusal) else "refusal of several lines"), how
        except Hang:
            return f"took more than {SECONDS} s", how
        except BaseException as error:
            return f"{type(error).__name__}: {error}", how
    if found == expected:
        return "right", how
    if must_be_right_or_refused(case, how):
        return "WRONG without a word", how
    return "as the file now says", how

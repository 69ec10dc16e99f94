"""Nothing that identifies a patient reaches what the project writes: identifiers are planted, and searched for."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.planted_identifiers import PlantedIdentifiers, written_forms

NAME = "Mustermüller^Erika"


def _write_pt(path: Path, text: str) -> None:
    torch.save({"epoch": 1, "note": [text]}, path)


def _write_archive_named(path: Path, text: str) -> None:
    # torch names the archive's folder after the file
    torch.save({"w": torch.ones(1)}, path.parent / f"{text}.pt")


def _write_tensor_name(path: Path, text: str) -> None:
    torch.save({text: torch.ones(1)}, path)


def _write_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", f"{'x' * 100}{text}{'x' * 100}")


def _write_zip_comment(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
        archive.comment = text.encode()


def _tar(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> None:
    member.size = len(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))


def _write_tar(path: Path, text: str) -> None:
    _tar(path, tarfile.TarInfo("a.txt"), text.encode())


def _write_tar_owner(path: Path, text: str) -> None:
    member = tarfile.TarInfo("a.txt")
    member.uname = text
    _tar(path, member)


def _write_zip_in_tar(path: Path, text: str) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", f"{'x' * 100}{text}")
    _tar(path, tarfile.TarInfo("a.zip"), inner.getvalue())


def _write_gzip_name(path: Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename=text, mode="wb", fileobj=raw) as stream:
        stream.write(b"values")


def _write_nifti(path: Path, text: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = text.encode()
    nibabel.save(image, path.with_suffix(".nii.gz"))


def _write_zarr_attributes(path: Path, text: str) -> None:
    zarr.create_group(path).attrs["who"] = text


def _write_zarr_chunk(path: Path, text: str) -> None:
    array = zarr.create_array(path, shape=(4096,), dtype="uint8", chunks=(4096,))
    array[:] = np.frombuffer(text.encode().ljust(4096), np.uint8)


def _write_hdf5(path: Path, text: str) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["sample"] = text


def _write_tiff(path: Path, text: str) -> None:
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), extratags=[(315, "s", 0, text.encode(), True)])


def _write_png(path: Path, text: str, *, packed: bool = False) -> None:
    info = PngInfo()
    info.add_itxt("Author", text, zip=packed)
    Image.new("L", (4, 4)).save(path, "PNG", pnginfo=info)


def _write_packed_png(path: Path, text: str) -> None:
    _write_png(path, text, packed=True)


def _write_page(path: Path, text: str) -> None:
    _write_packed_png(path.with_suffix(".png"), text)
    picture = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
    path.with_suffix(".png").unlink()
    path.write_text(f'<img src="data:image/png;base64,{picture}">')


def _write_numpy(path: Path, text: str) -> None:
    np.savez_compressed(path, names=np.array([text]))


CONTAINERS: dict[str, Callable[[Path, str], Any]] = {
    "name": lambda path, text: (path.parent / f"{text}.txt").write_text("x"),
    "link": lambda path, text: path.symlink_to(f"/data/{text}"),
    "text": lambda path, text: path.write_text(f"of {text}, born"),
    "capitals": lambda path, text: path.write_text(text.upper()),
    "JSON": lambda path, text: path.write_text(json.dumps({"a": text})),
    "UTF-16": lambda path, text: path.write_bytes(text.encode("utf-16-be")),
    "Latin-1": lambda path, text: path.write_bytes(text.encode("latin-1")),
    "zip": _write_zip, "zip's comment": _write_zip_comment, "tar": _write_tar, "tar's owner": _write_tar_owner,
    "zip in a tar": _write_zip_in_tar, "gzip's name": _write_gzip_name, "NIfTI": _write_nifti, "HDF5": _write_hdf5,
    "Zarr's attributes": _write_zarr_attributes, "Zarr's chunk": _write_zarr_chunk, "TIFF": _write_tiff,
    "PNG": _write_png, "packed PNG": _write_packed_png, "page": _write_page, "NumPy": _write_numpy,
    "weights": _write_pt, "weights' archive": _write_archive_named, "tensor's name": _write_tensor_name,
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_search_finds_what_leaks(container: str, tmp_path: Path) -> None:
    planted = PlantedIdentifiers([NAME])
    CONTAINERS[container](tmp_path / "leaky", NAME)
    assert {leak.identifier for leak in planted.in_folder(tmp_path)} == {NAME}


@pytest.mark.parametrize("form", written_forms("A^ü/<12"))
def test_the_search_finds_every_form(form: str) -> None:
    needle = written_forms("A^ü/<12")[form]
    assert form in {leak.form for leak in PlantedIdentifiers(["A^ü/<12"]).in_bytes(b"\0x" + needle + b"x\0", "there")}


@pytest.mark.parametrize("lead", range(7))
def test_the_search_finds_base64_at_any_place(lead: int) -> None:
    text = base64.b64encode(b"z" * lead + NAME.encode() + b"zz").decode()
    assert PlantedIdentifiers([NAME]).in_text(text)


def test_the_search_is_silent_where_nothing_leaks(tmp_path: Path) -> None:
    for name, write in CONTAINERS.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name / "clean", "Nobody^None")
    assert PlantedIdentifiers([NAME]).in_folder(tmp_path) == []
    with pytest.raises(ValueError, match="4 characters"):
        PlantedIdentifiers(["Li"])


def test_names_that_the_user_chose_may_stand_as_names_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "Erika.json").write_text("{}")
    planted = PlantedIdentifiers(["Erika"])
    assert [leak.where for leak in planted.in_folder(tmp_path)] == ["name of Erika.json"]
    assert planted.in_folder(tmp_path, given=["Erika"]) == []
    (tmp_path / "Erika.json").write_text('{"a": "Erika"}')
    assert [leak.where for leak in planted.in_folder(tmp_path, given=["Erika"])] == ["Erika.json"]

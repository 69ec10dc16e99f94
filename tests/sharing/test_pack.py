from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bonemonai.errors import InputError, OutputError
from bonemonai.sharing.pack import pack_bundle
from bonemonai.sharing.unpack import unpack_bundle
from bonemonai.sharing.verify import verify_bundle
from tests.sharing.small_bundle import CARD, INFERENCE, METADATA, README, names_in, write_bundle
from tests.sharing.test_weights_check import packed, weights
from tests.sharing.test_weights_scan import trained


def with_card(content: bytes, **card: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"models/model.pt": content, "models/model.json": {"sha256": digest, **CARD, **card}}


def read(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as opened:
        return opened.read(name)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_packing_twice_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", with_card(packed(trained())))
    one = pack_bundle(folder, tmp_path / f"1{kind}")
    # at another time, from another place, unpacked and packed again
    (tmp_path / "else").mkdir()
    unpack_bundle(tmp_path / f"1{kind}", tmp_path / "else" / "small")
    again = pack_bundle(tmp_path / "else" / "small", tmp_path / f"2{kind}")
    assert (tmp_path / f"1{kind}").read_bytes() == (tmp_path / f"2{kind}").read_bytes()
    assert one["sha256"] == again["sha256"] == hashlib.sha256((tmp_path / f"1{kind}").read_bytes()).hexdigest()
    assert "only the network's state was kept" in one["weights"]
    assert "weights" not in again


def test_archive_holds_the_list_and_the_card(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", {**with_card(packed(weights())), "eval/results.csv": "patient\n"})
    lines = pack_bundle(folder, tmp_path / "a.tgz")
    assert lines["packed"].startswith(f"{tmp_path / 'a.tgz'} (10 files")
    with tarfile.open(tmp_path / "a.tgz") as opened:
        names = opened.getnames()
        manifest = json.load(opened.extractfile("small/bundle.json") or io.BytesIO())
        card = (opened.extractfile("small/docs/model_card.md") or io.BytesIO()).read().decode()
    assert names == sorted(f"small/{name}" for name in [*manifest["files"], "bundle.json"])
    assert "small/docs/model_card.md" in names
    assert not any("eval" in name for name in names)
    assert manifest["weights"]["models/model.pt"]["trained_on"]["data"] == "a phantom"
    assert manifest["name"] == "small"
    assert card.index("a phantom") < card.index("It was 0.5.")
    assert names_in(tmp_path) == sorted(["a.tgz", "small", *(f"small/{name}" for name in names_in(folder))])


def test_an_optimisers_state_is_left_out(tmp_path: Path) -> None:
    content = packed(trained())
    folder = write_bundle(tmp_path / "small", with_card(content, options={"width": 3}))
    pack_bundle(folder, tmp_path / "a.zip")
    after = read(tmp_path / "a.zip", "small/models/model.pt")
    assert set(torch.load(io.BytesIO(after), weights_only=True)) == {"weight", "bias"}
    card = json.loads(read(tmp_path / "a.zip", "small/models/model.json"))
    assert card["sha256"] == hashlib.sha256(after).hexdigest() != hashlib.sha256(content).hexdigest()
    assert card["options"] == {"width": 3}
    # the bundle itself is left as it is
    assert (folder / "models" / "model.pt").read_bytes() == content


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"models/model.pt": packed({**weights(), "bias": torch.tensor(float("nan"))})}, "models/model.pt: holds NaN"),
        ({"models/model.pt": packed([1])}, "models/model.pt: holds no network's state"),
        ({"models/model.pt": b"text"}, "models/model.pt: is no file of weights"),
        ({"models/model.pt": packed(weights()), "models/model.json": CARD}, "models/model.json: is the card of other"),
        ({"models/model.pt": bytes(25_000_001)}, "models/model.pt: is no file of weights"),
        ({"docs/big.png": bytes(25_000_001)}, "docs/big.png: has 25.0 MB"),
        ({"LICENSE": None}, "LICENSE: is missing"),
        ({"docs/data_license.txt": None}, "docs/data_license.txt: is missing"),
        ({"docs/README.md": README.replace("Performance", "")}, "docs/README.md: does not say 'Performance'"),
        ({"configs/metadata.json": {**METADATA, "version": "3"}}, "configs/metadata.json: is of version 3"),
        ({"configs/train.json": "{"}, "configs/train.json: is no valid JSON"),
        ({"configs/helper.py": ""}, "configs/helper.py: is no part of a bundle: it is Python"),
        ({"configs/train.json": {"x": "$open('y')"}}, "configs/train.json: x: .*uses open.*--trust-code"),
        ({"configs/train.json": {"x": {"dataset_dir": "/data/study"}}}, "configs/train.json: line 3 .*absolute path"),
        ({"docs/README.md": README + "\nPatientID: 4711\n"}, "docs/README.md: line 21 .*identifier of DICOM"),
        ({"docs/README.md": README + "\nborn 1950-01-31\n"}, "docs/README.md: line 21 .*a date of birth"),
        ({"docs/data_license.txt": "DOE^JOHN"}, "docs/data_license.txt: line 1 .*a person's name"),
        ({"docs/notes.csv": "a,/home/maria/x"}, "docs/notes.csv: line 1 .*absolute path"),
        ({"docs/notes.txt": b"\xff\xfe"}, "docs/notes.txt: is no text in UTF-8"),
    ],
)
def test_refused(files: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", files)
    with pytest.raises(InputError, match=f"^{reason}") as error:
        pack_bundle(folder, tmp_path / "a.zip")
    assert "\n" not in str(error.value)
    assert "maria" not in str(error.value)
    assert "4711" not in str(error.value)
    assert not (tmp_path / "a.zip").exists()


def test_a_path_in_a_card_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", with_card(packed(weights()), options={"manifest": "/home/maria/m.csv"}))
    with pytest.raises(InputError, match=r"^models/model.json: line \d+ holds what looks like an absolute path"):
        pack_bundle(folder, tmp_path / "a.zip")


def test_large_files_and_trusted_code_on_request(tmp_path: Path) -> None:
    files = {"docs/big.png": bytes(25_000_001), "configs/train.json": {"x": "$open('y')"}}
    folder = write_bundle(tmp_path / "small", files)
    with pytest.raises(InputError) as error:
        pack_bundle(folder, tmp_path / "a.zip", allow_large=True)
    digest = str(error.value).split("--trust-code ")[1].rstrip(".")
    pack_bundle(folder, tmp_path / "a.zip", allow_large=True, trust_code=digest)
    with pytest.raises(InputError, match=r"has 25.0 MB"):
        pack_bundle(folder, tmp_path / "b.zip", trust_code=digest)


def test_places_that_are_taken_or_wrong(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(OutputError, match="exists already; choose another name, or say --overwrite"):
        pack_bundle(folder, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"
    pack_bundle(folder, tmp_path / "a.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "a.zip")
    with pytest.raises(OutputError, match="lies in the bundle"):
        pack_bundle(folder, folder / "a.zip")
    with pytest.raises(InputError, match=r"must end in .zip"):
        pack_bundle(folder, tmp_path / "a.rar")
    with pytest.raises(InputError, match="is no folder of a bundle"):
        pack_bundle(tmp_path / "gone", tmp_path / "b.zip")


def test_a_wheel_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonemonai.sharing.pack.build_wheel", lambda: ("bonemonai-1-py3-none-any.whl", b"PK"))
    folder = write_bundle(tmp_path / "small", {"configs/inference.json": INFERENCE})
    pack_bundle(folder, tmp_path / "a.zip", wheel=True)
    assert read(tmp_path / "a.zip", "small/wheels/bonemonai-1-py3-none-any.whl") == b"PK"
    unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    assert verify_bundle(tmp_path / "out", "small")["wheel"].endswith("which was not checked")
    # one that is packed again without does not keep the old one
    pack_bundle(tmp_path / "out", tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as opened:
        assert not any("wheels" in name for name in opened.namelist())

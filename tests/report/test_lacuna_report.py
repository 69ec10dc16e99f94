from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bonemonai.data import OmeZarrWriter, fingerprint, manifest_items, open_volume, read_manifest
from bonemonai.errors import InputError
from bonemonai.report import write_lacuna_report
from bonemonai.report.lacuna_report import PAPER_TABLE_1A, _training_sentence

TRAINED = {"data": "a phantom", "kind": "synthetic", "patients": {"train": 2, "val": 1}}


@pytest.fixture(scope="module")
def patient(study: Path) -> str:
    return str(manifest_items(read_manifest(study / "manifest.csv"), "test")[0]["patient"])


@pytest.fixture(scope="module")
def results(study: Path, patient: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What inference leaves, the prediction being the truth with its first two planes missed."""
    folder = tmp_path_factory.mktemp("results")
    for name, source in (("lacunae", "lacunae"), ("bone", "bone")):
        array = open_volume(study / patient / source).read()
        if name == "lacunae":
            array[:2] = 0
        path, size = folder / f"{name}.ome.zarr", (1.6, 1.6, 1.6)
        with OmeZarrWriter(path, shape=array.shape, dtype=array.dtype, voxel_size_um=size) as writer:
            writer.write(array)
    inputs = {"dataset_dir": fingerprint(study / patient / "image")}
    weights = {"sha256": "0" * 64, "trained_on": TRAINED}
    (folder / "run.json").write_text(json.dumps({"inputs": inputs, "weights": weights}))
    write_lacuna_report(folder, manifest=study / "manifest.csv", patient=patient)
    return folder


@pytest.fixture
def page(results: Path) -> str:
    return (results / "report.html").read_text(encoding="utf-8")


def test_scores_are_those_of_the_masks(results: Path, study: Path, patient: str) -> None:
    scores = pd.read_csv(results / "scores.csv").set_index(["method", "quantity"])["value"]
    truth = open_volume(study / patient / "lacunae").read()
    found = open_volume(results / "lacunae.ome.zarr").read()
    expected = 2 * np.count_nonzero(truth & found) / (np.count_nonzero(truth) + np.count_nonzero(found))
    assert scores["U-Net", "dsc_lacunae"] == pytest.approx(expected)
    bone = open_volume(study / patient / "bone").read()
    assert scores["truth", "bone_volume_mm3"] == pytest.approx(np.count_nonzero(bone) * 1.6**3 * 1e-9)
    assert len([method for method, _ in scores.index if method.startswith("threshold")]) == 4


def test_lacunae_table_has_a_row_an_object(results: Path) -> None:
    table = pd.read_csv(results / "lacunae.csv")
    mask = open_volume(results / "lacunae.ome.zarr").read()
    assert table["volume_um3"].sum() == pytest.approx(np.count_nonzero(mask) * 1.6**3, rel=1e-3)
    assert table["plane"].min() >= 2


def test_page_says_what_it_must(page: str, patient: str) -> None:
    for text in ("PHANTOM DATA", "not a medical device", "trained on 2 and chosen on 1 subjects of: a phantom"):
        assert text in page
    for name, lacunae, background in PAPER_TABLE_1A:
        assert re.search(rf"{re.escape(name.split(',')[0])}.*?{lacunae} %.*?{background} %", page, re.DOTALL)
    for text in ("Lc.N/BV", "strongest global threshold", "median 3 x 3 x 3", "Otsu inside bone"):
        assert text in page


def test_page_is_self_contained_and_names_no_patient(page: str, patient: str, study: Path) -> None:
    assert patient not in re.sub(r'src="data:[^"]*"', "", page)
    assert str(study) not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)


def test_opens_in_a_browser(results: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium: the report is not looked at in a browser")
    common = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    address = (results / "report.html").as_uri()
    shot = tmp_path / "shot.png"
    subprocess.run(
        [*common, "--window-size=1000,2000", f"--screenshot={shot}", address],
        check=True,
        capture_output=True,
        timeout=80,
    )
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3).astype(int)
    # the notice's bar and both outlines: styles and figures are there
    for colour in ((213, 94, 0), (86, 180, 233)):
        assert (np.abs(pixels - colour).sum(axis=1) < 60).sum() > 20
    dom = subprocess.run(
        [*common, "--dump-dom", address], check=True, capture_output=True, text=True, timeout=80
    ).stdout
    assert "PHANTOM DATA" in dom


def test_unknown_training_data_are_said(results: Path, study: Path, patient: str, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "weights": None}))
    write_lacuna_report(copy, manifest=study / "manifest.csv", patient=patient)
    assert "What the model was trained on is not known" in (copy / "report.html").read_text(encoding="utf-8")


def test_results_of_another_scan_are_refused(results: Path, study: Path, patient: str, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    other = next(folder for folder in sorted(study.glob("*/image")) if folder.parent.name != patient)
    (copy / "run.json").write_text(json.dumps({"inputs": {"dataset_dir": fingerprint(other)}}))
    with pytest.raises(InputError, match="belongs to another scan"):
        write_lacuna_report(copy, manifest=study / "manifest.csv", patient=patient)
    (copy / "run.json").unlink()
    with pytest.raises(InputError, match="is no record of an inference run"):
        write_lacuna_report(copy, manifest=study / "manifest.csv", patient=patient)


def test_refusals(results: Path, study: Path, patient: str, tmp_path: Path) -> None:
    manifest = study / "manifest.csv"
    table = read_manifest(manifest)
    trained = manifest_items(table, "train")[0]["patient"]
    with pytest.raises(InputError, match=r"is in split 'train'; only 'test' is held out"):
        write_lacuna_report(results, manifest=manifest, patient=trained)
    with pytest.raises(InputError, match="has 0 images of patient 'nobody'"):
        write_lacuna_report(results, manifest=manifest, patient="nobody")
    with pytest.raises(InputError, match=r"lacunae\.ome\.zarr: no such file"):
        write_lacuna_report(tmp_path, manifest=manifest, patient=patient)
    assert list(tmp_path.iterdir()) == []


def test_leakage_is_said_in_the_report() -> None:
    leaking = {**TRAINED, "leakage": "patients are shared between splits"}
    assert "LEAKAGE: patients are shared between splits; scores say nothing" in _training_sentence(leaking)
    assert "LEAKAGE" not in _training_sentence(TRAINED)


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_prediction_is_no_truth_here_either(
    split: str, results: Path, study: Path, patient: str, tmp_path: Path
) -> None:
    """Neither what is scored against nor what thresholds are tuned on."""
    copy = shutil.copytree(study, tmp_path / "study")
    table = pd.read_csv(copy / "manifest.csv", dtype=str, keep_default_na=False).assign(label_origin="")
    row = table.index[table["split"] == split][0]
    table.loc[row, "label_origin"] = "model:0123"
    table.to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(InputError, match="is no truth: only labels made by hand can be scored"):
        write_lacuna_report(shutil.copytree(results, tmp_path / "out"), manifest=copy / "manifest.csv", patient=patient)


def test_a_patient_without_a_label_is_refused(results: Path, study: Path, patient: str, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "study")
    table = pd.read_csv(copy / "manifest.csv", dtype=str, keep_default_na=False)
    table.loc[table["patient"] == patient, "label"] = ""
    table.to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(InputError, match="gives no 'label' of"):
        write_lacuna_report(shutil.copytree(results, tmp_path / "out"), manifest=copy / "manifest.csv", patient=patient)

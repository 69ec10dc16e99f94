from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.report import write_resolution_report
from tests.report.resolution_folder import MISLEADING, SPECIMENS, write_evaluation, write_panels


def test_the_verdict_comes_first_and_sees_through_psnr(tmp_path: Path) -> None:
    good = write_evaluation(tmp_path / "good")
    bad = write_evaluation(tmp_path / "bad", MISLEADING, lost={"lr": 0.3, "bicubic": 0.2, "dl": 0.5})
    files = write_resolution_report(tmp_path / "out", results={"good": good, "bad": bad})
    assert [path.name for path in files] == ["report.html", "verdict.csv", "agreement.csv", "matrix.csv"]
    page = files[0].read_text()
    assert page.index("Verdict: bone first") < page.index("PSNR")
    assert page.count('<div class="verdict misleads">') == 1
    assert "A better image, but no better bone" in page
    assert "50.0 % of the fine scans&#39; bone is lost" in page
    verdicts = pd.read_csv(files[1]).set_index("result")
    assert verdicts["misleads"].to_dict() == {"good": False, "bad": True}
    assert verdicts.loc["bad", "worse"] == "BA/TA Tb.Th Tb.Sp"
    assert verdicts.loc["good", "reach_BA/TA_dl"] < verdicts.loc["good", "reach_BA/TA_lr"]
    agreement = pd.read_csv(files[2])
    assert len(agreement) == 2 * 15
    assert (agreement["reach"] >= agreement["bias"].abs()).all()


def test_honesty(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", leakage="parts of one specimen")
    page = write_resolution_report(tmp_path / "out", results={"x": folder})[0].read_text()
    for words in ("PHANTOM DATA", "not a medical device", "say nothing about bone", "LEAKAGE: parts of one specimen",
                  ">= 500 mg HA/cm3".replace(">", "&gt;")):  # fmt: skip
        assert words in page
    assert "0123456789abcdef" not in page  # digests of scans
    assert str(tmp_path) not in page
    real = write_evaluation(tmp_path / "b", tested_on="real bone", weights={"trained_on": {"kind": "real bone"}})
    page = write_resolution_report(tmp_path / "out", results={"x": real}, overwrite=True)[0].read_text()
    assert "PHANTOM" not in page
    assert "trained and tested on data of this kind: real bone." in page


def test_runs_of_one_cell_are_pooled(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_evaluation(tmp_path / f"seed{seed}" / "femur", seed=seed)
        write_evaluation(tmp_path / f"seed{seed}" / "spine", MISLEADING, site="spine", frames=3)
    results = {f"seed {seed}": tmp_path / f"seed{seed}" for seed in (0, 1)}
    matrix = pd.read_csv(write_resolution_report(tmp_path / "out", results=results)[3])
    assert matrix["tested_on"].tolist() == ["femur, 1 frame", "spine, 3 frames"]
    assert matrix["runs"].tolist() == [2, 2]
    assert matrix["misleading_runs"].tolist() == [0, 2]
    psnr = pd.read_csv(tmp_path / "seed0" / "femur" / "specimens.csv").groupby("method")["psnr_db"].mean()
    assert matrix["psnr_db_gain_percent"].tolist() == pytest.approx([100 * (psnr["dl"] / psnr["lr"] - 1)] * 2)


def test_pages_of_many_results_stay_small(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "0")
    write_panels(first / "panels.npz", SPECIMENS)
    alone = write_resolution_report(tmp_path / "alone", results={"x": first})[0].read_text()
    assert alone.count('alt="Plane') == 4
    results = {str(number): shutil.copytree(first, tmp_path / "all" / f"{number:02d}") for number in range(14)}
    page = write_resolution_report(tmp_path / "out", results=results)[0].read_text()
    assert page.count('alt="Plane') == 12
    assert page.count("3 more planes are in panels.npz") == 12
    assert page.count("4 more planes are in panels.npz") == 2


def test_without_bone_the_page_says_so(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", bone=False, per_slice=True)
    files = write_resolution_report(tmp_path / "out", results={"x": folder})
    page = files[0].read_text()
    assert "nothing is known of what the network does" in page
    assert "bone was not measured" in page
    assert pd.read_csv(files[2]).empty
    # beside one in which it was
    both = {"x": folder, "y": write_evaluation(tmp_path / "b")}
    assert "A better image" in write_resolution_report(tmp_path / "both", results=both)[0].read_text()


def test_refusals(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a")
    write_resolution_report(tmp_path / "out", results={"x": folder})
    with pytest.raises(OutputError, match="exists already"):
        write_resolution_report(tmp_path / "out", results={"x": folder})
    with pytest.raises(InputError, match="has nothing to show"):
        write_resolution_report(tmp_path / "other", results={})
    assert not (tmp_path / "other").exists()


def test_what_is_not_alike_is_not_pooled(tmp_path: Path) -> None:
    results = {
        "a": write_evaluation(tmp_path / "a", grey_range=[0.0, 100.0]),
        "b": write_evaluation(tmp_path / "b", grey_range=[0.0, 100.0], per_slice=True, bone=False),
        "c": write_evaluation(tmp_path / "c", grey_range=[0.0, 100.0], tested_on="ex vivo"),
    }
    matrix = pd.read_csv(write_resolution_report(tmp_path / "out", results=results)[3])
    assert matrix["data"].tolist() == [
        "synthetic / synthetic, 0 to 100", "synthetic / synthetic, each slice", "synthetic / ex vivo, 0 to 100",
    ]  # fmt: skip


def test_a_split_that_is_not_the_test_and_specimens_of_one_subject_are_told(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", split="val")
    for name in ("planes", "specimens", "morphometry", "overlap"):
        table = pd.read_csv(folder / f"{name}.csv")
        table["specimen"] = table["specimen"].str.replace("subject_01 femur", "subject_00 spine")
        table.to_csv(folder / f"{name}.csv", index=False)
    page = write_resolution_report(tmp_path / "out", results={"x": folder})[0].read_text()
    assert "scored on split val, not on the test" in page
    assert "4 specimens of 3 subjects" in page
    assert "are no independent pairs" in page

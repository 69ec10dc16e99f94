"""A bundle that `bonemonai bundle new` has just made passes every check, and runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow, verify_net_in_out
from packaging.requirements import Requirement
from packaging.version import Version

import bonemonai
from bonemonai.data import manifest_items, open_volume, read_manifest
from bonemonai.errors import InputError, OutputError
from bonemonai.networks.state_dict import read_state_dict
from bonemonai.sharing import new_bundle, pack_bundle, verify_bundle, write_bundle_pages
from bonemonai.sharing.bundle_checks import check_layout, check_metadata
from bonemonai.sharing.bundle_files import METADATA, bundle_files, read_configs
from tests.bundle_runs import BundleRuns
from tests.command_line import call
from tests.conftest import ROOT
from tests.sharing.small_bundle import names_in

NAME = "femur_microct_lacunae"
TINY: dict[str, Any] = {"features": [2, 2, 4, 4, 8, 2], "max_epochs": 2, "plane_step": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_bundle(NAME, into=tmp_path_factory.mktemp("made"))


@pytest.fixture
def metadata(made: Path) -> dict[str, Any]:
    return check_metadata(read_configs(bundle_files(made)))


@pytest.fixture(scope="module")
def runs(made: Path) -> BundleRuns:
    return BundleRuns(str(made))


def train(runs: BundleRuns, study: Path, checkpoint: Path, **options: Any) -> None:
    given = {**TINY, "dataset_dir": str(study), "checkpoint": str(checkpoint), **options}
    runs.workflow("train", "smoke", **given).run()


@pytest.fixture(scope="module")
def checkpoint(runs: BundleRuns, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    train(runs, study, path)
    return path


def fill_in(folder: Path) -> None:
    for file in (path for path in folder.rglob("*") if path.suffix in (".json", ".md", ".txt")):
        file.write_text(re.sub("FILL IN: ", "", file.read_text()))


def test_it_has_the_files_of_a_bundle_and_no_place_holder_of_ours(made: Path) -> None:
    assert names_in(made) == [
        "LICENSE", "configs", "configs/evaluate.json", "configs/inference.json", "configs/logging.conf",
        "configs/metadata.json", "configs/smoke.json", "configs/train.json", "docs", "docs/README.md",
        "docs/data_license.txt",
    ]  # fmt: skip
    assert not any("{{" in path.read_text() for path in made.rglob("*") if path.is_file())
    assert (made / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for other in (ROOT / "bundles").glob("*/configs/logging.conf"):
        assert (made / "configs" / "logging.conf").read_text() == other.read_text()


def test_it_is_verified_at_once(made: Path, metadata: dict[str, Any]) -> None:
    assert "all on the list" in verify_bundle(made, NAME)["configs"]
    check_layout(bundle_files(made))
    assert metadata["name"] == "Femur microct lacunae"
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "microct"


def test_it_has_a_page(made: Path, tmp_path: Path) -> None:
    index, page = write_bundle_pages([made], tmp_path)
    assert "Femur microct lacunae" in index.read_text()
    assert "of a scan&#39;s grey values, which become 0 and 1" in page.read_text()
    assert all(f"<code>{option}</code>" in page.read_text() for option in ("percentiles", "plane_step", "record"))


def test_its_metadata_are_valid_against_monais_schema(metadata: dict[str, Any]) -> None:
    schema = os.environ.get("BONEMONAI_METADATA_SCHEMA")
    if not schema:
        pytest.skip("BONEMONAI_METADATA_SCHEMA is not set: MONAI's schema file is not part of the repository")
    valid = jsonschema.validators.validator_for({})(json.loads((ROOT / schema).read_text()))
    assert [error.message for error in valid.iter_errors(metadata)] == []
    assert list(valid.iter_errors({**metadata, "version": 1})) != []


def test_versions_that_it_names_satisfy_the_packages_own_needs(metadata: dict[str, Any]) -> None:
    needs = {requirement.name.lower(): requirement.specifier for requirement in map(Requirement, requires("bonemonai"))}
    named = {
        "monai": metadata["monai_version"], "torch": metadata["pytorch_version"], "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }  # fmt: skip
    assert named.pop("bonemonai") == bonemonai.__version__
    assert all(Version(version) in needs[name] for name, version in named.items())


def test_its_network_takes_and_gives_what_its_metadata_say(made: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(made / METADATA),
        config_file=str(made / "configs" / "inference.json"),
        device="cpu",
        p=2,
        n=4,
        features=TINY["features"],
    )


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_properties_monai_requires(kind: str, made: Path, checkpoint: Path, study: Path, tmp_path: Path) -> None:
    scan = next(study.rglob("image"))
    options = (
        {"dataset_dir": str(study), "checkpoint": str(tmp_path / "model.pt")}
        if kind == "train"
        else {"dataset_dir": str(scan), "checkpoint": str(checkpoint), "output_dir": str(tmp_path)}
    )
    workflow = create_workflow(
        config_file=str(made / "configs" / f"{kind}.json"), logging_file=False, workflow_type=kind,
        initialize=["$@bundle_root"], **options,
    )  # fmt: skip
    assert workflow.check_properties() == []
    assert workflow.bundle_root == str(made)


def test_training_and_inference_prepare_images_alike(made: Path) -> None:
    train_json, inference = (json.loads((made / "configs" / f"{n}.json").read_text()) for n in ("train", "inference"))
    assert train_json["expects"] == inference["expects"]
    assert {k: v for k, v in train_json["network_def"].items() if k != "_desc_"} == inference["network_def"]
    first = train_json["preprocessing"]["transforms"][0]
    assert {k: v for k, v in first.items() if k != "_desc_"} == inference["preprocessing"]["transforms"][0]


def test_defaults_that_its_readme_names_are_those_of_its_configs(made: Path) -> None:
    config, readme = (
        json.loads((made / "configs" / "train.json").read_text()),
        (made / "docs" / "README.md").read_text(),
    )
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]* \| ([^|]*) \|$", readme, re.M)
    assert len(rows) == 5
    for names, defaults in rows:
        values = [config[name] for name in re.findall(r"`(\w+)`", names)]
        flat = values[0] if isinstance(values[0], list) else values
        assert [float(value) for value in defaults.split(",")] == flat


def test_it_goes_on_where_it_was_stopped(runs: BundleRuns, study: Path, checkpoint: Path, tmp_path: Path) -> None:
    for epochs in (1, 2):
        train(runs, study, tmp_path / "model.pt", max_epochs=epochs)
    whole, parts = (read_state_dict(path) for path in (checkpoint, tmp_path / "model.pt"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    curves = [path.with_suffix(".curve.csv").read_text() for path in (checkpoint, tmp_path / "model.pt")]
    assert curves[0] == curves[1]


def test_what_is_scored_is_what_is_written(runs: BundleRuns, study: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The evaluation's Dice is that of the inferred volume; sizes and percentiles come from the weights' card."""
    row = manifest_items(read_manifest(study / "manifest.csv"), "test")[0]
    given = {"checkpoint": str(checkpoint), "output_dir": str(tmp_path)}
    with runs.untouched():
        runs.workflow("train", "evaluate", dataset_dir=str(study), **given).run()
        runs.workflow("inference", dataset_dir=row["image"], **given).run()
    found, scan = open_volume(tmp_path / "label.ome.zarr"), open_volume(row["image"])
    assert (found.shape, found.dtype, found.voxel_size_um) == (scan.shape, np.uint8, scan.voxel_size_um)
    predicted, truth = found.read() > 0, open_volume(row["label"]).read() > 0
    dice = 2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth))
    assert 0 < dice < 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["dice"] == pytest.approx(dice, abs=1e-6)
    assert results["tested_on"] == results["weights"]["trained_on"]["kind"] == "synthetic"
    assert str(tmp_path) not in json.dumps(results)


def test_what_would_mislead_is_refused(runs: BundleRuns, study: Path, checkpoint: Path, tmp_path: Path) -> None:
    given = {"dataset_dir": str(study), "checkpoint": str(checkpoint), "output_dir": str(tmp_path)}
    assert "did you mean --dataset_dir?" in runs.refusal("train", datset_dir=str(study))
    assert "--manifest_path: is not given" in runs.refusal("train")
    assert "these weights were trained or chosen on it" in runs.refusal("train", "evaluate", **given, split="train")
    assert "was trained with percentiles [1, 99]" in runs.refusal("train", "evaluate", **given, percentiles=[0, 100])
    shutil.copyfile(checkpoint, tmp_path / "bare.pt")
    bare = {**given, "checkpoint": str(tmp_path / "bare.pt"), "dataset_dir": str(next(study.rglob("image")))}
    assert "has no card of its own" in runs.refusal("inference", **bare)


def test_packing_names_what_only_the_author_can_write(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    shutil.copytree(made, folder)
    with pytest.raises(InputError, match=r"^configs/metadata.json: line 18 is still to be written: who made") as caught:
        pack_bundle(folder, tmp_path / "a.zip")
    marked = [
        f"{path.relative_to(folder).as_posix()} line {number}"
        for path in sorted(folder.rglob("*")) if path.is_file()
        for number, line in enumerate(path.read_text().splitlines(), start=1) if "FILL IN:" in line
    ]  # fmt: skip
    assert all(place in str(caught.value) for place in marked[1:])
    fill_in(folder)
    pack_bundle(folder, tmp_path / "a.zip")
    assert f"{NAME}/configs/train.json" in zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert verify_bundle(folder, NAME)


def commands(folder: Path) -> str:
    """What its README says to type, at a size for tests."""
    script = re.findall(r"```bash\n(.*?)```", (folder / "docs" / "README.md").read_text(), re.DOTALL)[0]
    small = script.replace("--planes 16 --size 192", "--planes 4 --size 96")
    assert small != script
    return small.replace("--dataset_dir study\n", "--dataset_dir study --max_epochs 1\n", 1)


def test_commands_of_its_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, line by line, from the folder that holds it."""
    monkeypatch.chdir(tmp_path)
    lines = commands(new_bundle(NAME)).splitlines()
    variable, value = lines.pop(1).split("=")
    for line in lines:
        words = shlex.split(line.replace(f"${variable}", value))
        if words[0] == "bonemonai":
            assert call(*words[1:]) == 0
            continue
        assert words[:5] == ["python", "-m", "monai.bundle", "run", "--config_file"]
        files, options = words[5].strip("[]").replace("'", "").split(","), words[6:]
        given: dict[str, Any] = {
            name.removeprefix("--"): v for name, v in zip(options[::2], options[1::2], strict=True)
        }
        given |= {"max_epochs": 1} if "max_epochs" in given else {}
        create_workflow(config_file=files, logging_file=False, **given).run()
    for name in ("models/model.json", "eval/scores/results.json", "eval/labels/label.ome.zarr"):
        assert (tmp_path / NAME / name).exists()


@pytest.mark.slow
def test_commands_of_its_readme_as_they_are_typed(tmp_path: Path) -> None:
    script = commands(new_bundle(NAME, into=tmp_path))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert "loaded into BasicUNet" in run.stdout


def test_command_takes_a_title_and_finds_the_folder_of_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("bundle", "new", NAME) == 0
    (tmp_path / "bundles").mkdir()
    assert call("bundle", "new", NAME, "--title", 'Lacunae, "small"') == 0
    assert str(Path("bundles", NAME)) in capsys.readouterr().out
    assert json.loads((tmp_path / "bundles" / NAME / METADATA).read_text())["name"] == 'Lacunae, "small"'
    assert (tmp_path / "bundles" / NAME / "docs" / "README.md").read_text().startswith('# Lacunae, "small"\n')
    assert call("bundle", "verify", Path("bundles", NAME)) == 0


@pytest.mark.parametrize(
    "name", ["", "femur", "femur_microct", "Femur_microct_x", "femur__microct_x", "a_b_c/..", "1_b_c", "a_b_c_" * 40]
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no <anatomy>_<modality>_<task>"):
        new_bundle(name, into=tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("title", ["", " ", "two\nlines", "{{ name }}", "$5 network", "@x"])
def test_other_titles_are_refused(title: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--title: must be one line of text"):
        new_bundle(NAME, into=tmp_path, title=title)


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputError, match="exists already; choose another NAME"):
        new_bundle(NAME, into=tmp_path)
    assert names_in(tmp_path) == [NAME]

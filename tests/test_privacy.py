"""Nothing that identifies a patient reaches what the project writes: identifiers are planted, and searched for.

Searched are all files that the commands and bundles write: their names, their bytes, what is packed in them; and a log
file that a user's ``logging.conf`` asks for. What may stand, and where:

* UIDs of study, series, slices and frame of reference in ``mark.dcm``: without, it were no segmentation of the series.
* Names of folders and files in manifests, which say where scans lie, and the pseudonym in their column ``patient``:
  both are the user's. Results call patients subject_00, subject_01, ...; reports of paper 5 and 2 likewise.
* Names that the user gave to outputs, such as a checkpoint's, as names of files; not in any file.
* On the terminal, and there alone: paths as the user gave them, and UIDs by which one series of several is chosen.
"""

from __future__ import annotations

import base64
import getpass
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter

from bonemonai.__main__ import main
from bonemonai.engines.weights import sha256
from bonemonai.errors import find_bonemonai_error
from bonemonai.phantoms import write_compression_study, write_lumbar_study, write_murine_study, write_srmct_study
from tests.bundle_runs import BundleRuns
from tests.conftest import ROOT
from tests.dicom_files import hounsfield, tag, write_series
from tests.leaky_files import CONTAINERS
from tests.planted_identifiers import Leak, PlantedIdentifiers, written_forms
from tests.planted_scans import (
    FOLDER,
    IDENTIFIERS,
    UIDS,
    plant_in_aim,
    plant_in_dicom,
    plant_in_dicom_folder,
    plant_in_nifti,
    plant_in_study,
    plant_in_tiffs,
    write_planted_scans,
)
from tests.scanco_files import write_isq
from tests.sharing.small_bundle import CARD, write_bundle

NAME = "Mustermüller^Erika"
USER, HOST = "zquser-erika", "zqhost-erika"
LOGGING = """[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=full
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
formatter=full
args=({path!r}, 'a')
[formatter_full]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""


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


class Place:
    """A folder named after a patient, with what was given in one folder of it and what was made in another."""

    def __init__(self, folder: Path) -> None:
        self.given, self.made, self.logs = folder / "given", folder / "made", folder / "logs"
        for each in (self.given, self.made, self.logs):
            each.mkdir(parents=True)
        self.weights = self.made / "weights" / f"{FOLDER}.pt"
        # the machine's and the user's own names, and where all this lies
        self.own = [USER, HOST, str(folder.parent), str(ROOT)]
        self.planted = PlantedIdentifiers([*IDENTIFIERS, *UIDS, *self.own])

    def refuse_leaks(self) -> None:
        """Fail if anything planted stands in what was made, or in the logs."""
        found = [*self.planted.in_folder(self.made, given=[FOLDER]), *self.planted.in_folder(self.logs)]
        refuse([leak for leak in found if not (leak.identifier in UIDS and leak.where.endswith("mark.dcm"))])

    def workflow(self, bundle: str, *names: str, **options: Any) -> Any:
        """A bundle's workflow that logs to a file, as a user's own logging.conf may ask for."""
        from monai.bundle import create_workflow

        config = self.given / "logging.conf"
        config.write_text(LOGGING.format(path=str(self.logs / "run.log")))
        own = self.given / f"{FOLDER}.json"
        own.write_text('{"_desc_": "an overlay of the user\'s own"}')
        return create_workflow(
            config_file=[*BundleRuns(bundle).files(*names), str(own)], logging_file=str(config), **options
        )

    def run(self, bundle: str, *names: str, **options: Any) -> None:
        """Run a workflow, which tells the terminal what it was given, and nothing of a header."""
        with printed() as said:
            try:
                self.workflow(bundle, *names, **options).run()
            finally:
                refuse_on_terminal(said.getvalue())

    def refused(self, bundle: str, *names: str, **options: Any) -> None:
        """Run a workflow that ends in a refusal, which names a file the user gave and nothing of its header."""
        with pytest.raises(Exception, match=r".") as caught:
            self.run(bundle, *names, **options)
        refuse_on_terminal(str(find_bonemonai_error(caught.value)))


def refuse(leaks: list[Leak]) -> None:
    """Fail where there are leaks, saying each."""
    if leaks:
        pytest.fail("\n".join(map(str, leaks)), pytrace=False)


def refuse_on_terminal(text: str) -> None:
    """A path that the user gave may stand on the user's terminal; what a header says may not."""
    refuse(PlantedIdentifiers(IDENTIFIERS).in_text(text.replace(FOLDER, ""), "terminal"))


@contextmanager
def printed() -> Iterator[io.StringIO]:
    """What is written to the terminal, also by handlers that MONAI's loggers have had since it was imported."""
    stream = io.StringIO()
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    handlers = [each for logger in loggers for each in logger.handlers if type(each) is logging.StreamHandler]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            yield stream
    finally:
        for handler, own in zip(handlers, before, strict=True):
            handler.setStream(own)


def command(*arguments: object, code: int = 0) -> str:
    """Run a command of bonemonai; returns what it printed."""
    with printed() as said, pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == code, said.getvalue()
    refuse_on_terminal(said.getvalue())
    return said.getvalue()


@pytest.fixture(autouse=True)
def _somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user, a home and a machine whose names are unmistakable; logging is put back afterwards."""
    monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_configdir())
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", str(tmp_path / USER))
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    monkeypatch.setattr("platform.node", lambda: HOST)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / FOLDER)


def test_the_user_of_these_tests_is_planted(tmp_path: Path) -> None:
    assert getpass.getuser() == USER
    assert USER in str(Path.home())


@pytest.mark.parametrize("kind", ["dicom", "ome.tif", "nii.gz", "isq", "zarr", "nxs"])
def test_inspect_and_measure(kind: str, place: Place) -> None:
    scan = write_planted_scans(place.given / "scans")[kind]
    found = {leak.where.partition("!")[0].partition("/")[0] for leak in place.planted.in_folder(place.given / "scans")}
    assert found >= {path.name for path in (place.given / "scans").iterdir()}
    command("inspect", scan, "--full", "--dump", place.made / FOLDER)
    size = [] if kind in ("dicom", "ome.tif", "nii.gz", "isq") else ["--voxel-size-um", "10"]
    options = ["--threshold", {"dicom": "-800", "isq": "-200"}.get(kind, "300"), "--measures", "surface,network", *size]
    for style in ("json", "csv", "text"):
        told = command("measure", scan, *options, "--format", style, "--record", place.made / f"{style}.json",
                       "--slices", place.made / "slices.csv")  # fmt: skip
        (place.made / f"told.{style}").write_text(told)
    assert (place.made / f"{FOLDER}.json").is_file()
    place.refuse_leaks()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientID": "ZQOTHER-4411"}, "differs from"), ({"PatientName": "Quacksalber^Balduin"}, "differs from"),
        ({"PatientBirthDate": "20170831"}, "differs from"), ({"BurnedInAnnotation": "YES"}, "burned into its pixels"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"), ({"RescaleSlope": None}, "RescaleSlope"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"), ({"SeriesInstanceUID": f"{UIDS[0]}.8"}, "series:"),
    ],
)  # fmt: skip
def test_refusals_say_nothing_of_headers(tags: dict[str, Any], words: str, place: Place) -> None:
    def edit(dataset: Dataset, plane: int) -> None:
        plant_in_dicom(dataset, 7)
        for name, value in tags.items() if plane == 2 else ():
            tag(name, value)(dataset, plane)

    folder = write_series(place.given / FOLDER, hounsfield(), edit=edit)
    assert words in command("inspect", folder, code=0 if words == "series:" else 2)
    command("measure", folder, "--threshold", 0, code=2)
    assert list(place.made.iterdir()) == []


def test_manifests(place: Place) -> None:
    """Lists of scans hold paths and pseudonyms, which are the user's; the records beside them do not."""
    manifest = write_lumbar_study(
        place.given, subjects=3, matrix=32, levels=("L1",), interval_mm=10.0, splits=(1, 1, 1)
    )
    plant_in_study(manifest)
    for number, folder in enumerate(sorted(place.given.glob("*/dicom"))):
        plant_in_dicom_folder(folder, number)
    command("manifest", "build", place.given, "--image", "*/dicom", "-o", place.given / "built.csv")
    command("manifest", "check", place.given / "manifest.csv", "--classes", "normal,osteoporosis,low bone mass")
    command("manifest", "split", place.given / "manifest.csv", "--ratio", "1,1,1")
    record = place.given / "manifest_ratio.json"
    refuse(place.planted.in_text(record.read_text()))
    built = pd.read_csv(place.given / "built.csv")
    refuse(place.planted.in_text(built.drop(columns=["patient", "image"]).to_csv()))
    fold = pd.read_csv(place.given / "manifest_ratio_00.csv")
    assert set(fold["patient"]) == {"phantom-0001", "phantom-0002", "phantom-0003"}
    refuse(place.planted.in_text(fold.drop(columns=["image", "mask", "vertebrae"]).to_csv()))


def test_ct_of_the_spine_from_training_to_report(place: Place) -> None:
    bundle = "lumbar_ct_osteoporosis_screening"
    study = place.given / FOLDER
    manifest = write_lumbar_study(study, subjects=3, seed=1, matrix=128, levels=("L1", "L2"), interval_mm=5.0,
                                  splits=(1, 1, 1))  # fmt: skip
    plant_in_study(manifest, lambda path: None if path.is_dir() else plant_in_nifti(path))
    folders = sorted(study.glob("*/dicom"))
    for number, folder in enumerate(folders):
        plant_in_dicom_folder(folder, number)
    options = {"manifest_path": str(manifest), "overwrite": True, "cache_dir": str(place.made / "cache")}
    segmentation = place.made / "weights" / f"{FOLDER}_segmentation.pt"
    place.run(bundle, "train_segmentation", "smoke", checkpoint=str(segmentation), width=8, layers=7,
              constant_epochs=1, decay_epochs=1, batch_size=4, **options)  # fmt: skip
    place.run(bundle, "train_classification", "smoke_classification", checkpoint=str(place.weights), crop_size=48,
              image_size=128, max_epochs=1, **options)  # fmt: skip
    own = {"segmentation": str(segmentation), "checkpoint": str(place.weights)}
    evaluated = place.made / "evaluated"
    place.run(bundle, "inference", "evaluate", dataset_dir=str(manifest), output_dir=str(evaluated), copies=1, **own)
    place.run(bundle, "report", results={"bcc_net": str(evaluated)}, output_dir=str(place.made / "report"),
              curves={"bcc_net": str(place.weights.with_suffix(".curve.csv"))})  # fmt: skip
    shipped = {name: str(ROOT / "bundles" / bundle / "models" / f"{file}.pt")
               for name, file in (("segmentation", "segmentation"), ("checkpoint", "model"))}  # fmt: skip
    # one whole, and a folder of three of which one is damaged
    place.run(bundle, "inference", dataset_dir=str(folders[2]), output_dir=str(place.made / "one"), min_area_mm2=1,
              **shipped)  # fmt: skip
    assert (place.made / "one" / "scan_0000" / "mark.dcm").is_file()
    assert list((place.made / "one").rglob("*.html"))
    place.run("lumbar_ct_osteoporosis_multitask", "inference", dataset_dir=str(folders[2]),
              output_dir=str(place.made / "joint"))  # fmt: skip
    _shorten(max(folders[0].iterdir()))
    place.refused(bundle, "inference", dataset_dir=str(folders[0]), output_dir=str(place.made / "none"), **shipped)
    place.refused(bundle, "inference", dataset_dir=str(study), output_dir=str(place.made / "three"), **shipped)
    assert "failed" in (place.made / "three" / "screening.csv").read_text()
    place.refuse_leaks()
    _all_that_is_promised(place, "*.pt", "*.html", "*.json", "*.csv", "*.nii.gz", "*.cache")


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _all_that_is_promised(place: Place, *patterns: str) -> None:
    """A search in folders that are empty finds nothing."""
    for pattern in patterns:
        assert list(place.made.rglob(pattern)), pattern
    assert (place.logs / "run.log").stat().st_size > 0


def test_synchrotron_scans_of_the_femur(place: Place) -> None:
    bundle = "femur_srmct_osteoporosis_mga"
    study = place.given / FOLDER
    manifest = write_srmct_study(study, shape=(6, 120, 115), patients_per_class=2, seed=3)
    plant_in_study(manifest, plant_in_tiffs)
    tiny = {"width": 4, "max_epochs": 1, "plane_step": 2}
    place.run(bundle, "train_segmentation", "smoke", dataset_dir=str(study), checkpoint=str(place.weights), **tiny)
    place.run(bundle, "train_segmentation", "smoke", "evaluate", dataset_dir=str(study), width=4,
              checkpoint=str(place.weights), output_dir=str(place.made / "evaluated"))  # fmt: skip
    row = pd.read_csv(manifest).query("split == 'test'").iloc[0]
    own = {"checkpoint": str(place.weights)}
    results = place.made / FOLDER
    for also in ("tiff", "nifti"):
        place.run(bundle, "inference", dataset_dir=str(study / row["image"]), output_dir=str(results / also), also=also,
                  overwrite=True, **own)  # fmt: skip
    # again: complete already
    place.run(
        bundle, "inference", dataset_dir=str(study / row["image"]), output_dir=str(results / "tiff"), also="tiff", **own
    )
    command("report", results / "tiff", "--manifest", manifest, "--patient", row["patient"])
    place.run(bundle, "report", segmentation={"U-Net": str(place.made / "evaluated")}, output_dir=str(place.made / "r"))
    _shorten(min((study / row["image"]).iterdir()))
    damaged = str(study / row["image"])
    place.refused(bundle, "inference", dataset_dir=damaged, output_dir=str(place.made / "none"), **own)
    place.refused(bundle, "inference", dataset_dir=str(manifest), output_dir=str(place.made / "batch"), **own)
    place.refused(bundle, "train_segmentation", "smoke", "evaluate", dataset_dir=str(study), width=4,
                  checkpoint=str(place.weights), output_dir=str(place.made / "again"))  # fmt: skip
    assert "InputError" in (place.made / "batch" / "summary.csv").read_text()
    place.refuse_leaks()
    _all_that_is_promised(place, "*.pt", "*.html", "run.json", "zarr.json", "*.tif", "*.nii", "summary.csv")


def test_runs_and_their_records(place: Place) -> None:
    study = place.given / FOLDER
    manifest = write_srmct_study(study, shape=(6, 120, 115), patients_per_class=2, seed=3)
    plant_in_study(manifest, plant_in_tiffs)
    own = place.given / f"{FOLDER}.json"
    own.write_text(json.dumps({"learning_curve": str(place.made / "curve.csv"), "width": 4}))
    words = ["run", ROOT / "bundles" / "femur_srmct_osteoporosis_mga", "train_segmentation", "--overlay", "smoke"]
    words += ["--overlay", own, "--set", f"dataset_dir={study}", "--set", f"checkpoint={place.weights}"]
    command(*words, "--set", "max_epochs=1", "--set", "plane_step=2")
    (place.made / "curve.csv").unlink()
    command(*words, "--set", "max_epochs=1", "--set", "overwrite=True", "--record", place.made / "stopped.run.json",
            "--set", f"manifest_path={place.given / FOLDER / 'none.csv'}", code=2)  # fmt: skip
    place.refuse_leaks()
    records = [json.loads(path.read_text()) for path in sorted(place.made.rglob("*.run.json"))]
    assert [record["outcome"] for record in records] == ["refused", "done"]
    assert records[1]["inputs"].keys() == {"dataset_dir", "manifest_path"}


def test_lists_that_steps_write_hold_paths_and_pseudonyms_alone(place: Place) -> None:
    bundle = "femur_srmct_osteoporosis_mga"
    manifest = write_srmct_study(place.given, shape=(6, 120, 115), patients_per_class=2, seed=3)
    plant_in_study(manifest, plant_in_tiffs)
    place.run(bundle, "select_slices", manifest_path=str(manifest), number=2)
    place.run(bundle, "inference", "pseudo_label", "predict_masks", manifest_path=str(place.given / "slices.csv"),
              checkpoint=str(ROOT / "bundles" / bundle / "models" / "model.pt"))  # fmt: skip
    masks = place.given / "slices_masks"
    refuse(place.planted.in_folder(masks))
    for name in ("slices.json", "slices_left_out.csv", "slices_masks.json"):
        refuse(place.planted.in_text((place.given / name).read_text()))
    table = pd.read_csv(place.given / "slices_masks.csv")
    refuse(place.planted.in_text(table.drop(columns=["image", "label", "mask"]).to_csv()))
    place.refuse_leaks()


def test_microct_of_mice(place: Place) -> None:
    bundle = "microct_super_resolution"
    study = place.given / FOLDER
    manifest = write_murine_study(study, specimens_per_site=3, seed=3, hr_shape=(16, 64, 64))
    plant_in_study(manifest, lambda path: plant_in_aim(path) if path.suffix == ".aim" else plant_in_nifti(path))
    tiny = {"features": [8, 8, 16, 16, 32, 8], "patch_size": 48, "step": 1, "max_epochs": 1}
    own = {"manifest_path": str(manifest), "checkpoint": str(place.weights)}
    place.run(bundle, "train", "smoke", **own, **tiny)
    place.run(bundle, "train", "evaluate", output_dir=str(place.made / "evaluated"), site="femur", **own)
    place.run(bundle, "report", results={"ours": str(place.made / "evaluated")}, output_dir=str(place.made / "report"))
    scan = str(study / pd.read_csv(manifest)["lr"].iloc[0])
    options = {"dataset_dir": scan, "checkpoint": str(place.weights)}
    place.run(bundle, "inference", output_dir=str(place.made / "fine"), also="nifti", **options)
    place.run(bundle, "consistency", high=str(place.made / "fine" / "high.ome.zarr"),
              output_dir=str(place.made / "checked"), **options)  # fmt: skip
    command("plan", scan, "--config", BundleRuns(bundle).files("inference")[0], "--checkpoint", place.weights)
    place.refuse_leaks()
    _all_that_is_promised(place, "*.training/*.pt", "*.html", "run.json", "zarr.json", "*.nii", "consistency.json")


def test_bone_under_load(place: Place) -> None:
    bundle = "bone_srmct_damage_classification"
    study = place.given / FOLDER
    manifest = write_compression_study(study, samples=3, states=2, shape=(32, 32, 32), seed=2)
    plant_in_study(manifest, plant_in_tiffs)
    prepared = place.made / f"{FOLDER}_prepared"
    for _ in range(2):  # again: done already
        command("prepare", manifest, prepared, "--crop-size", "24", "--slices", "6")
    slices = str(prepared / "slices.csv")
    tiny = {"width": 2, "image_size": 24, "layers": 2, "max_epochs": 1}
    place.run(bundle, "train", "smoke", manifest_path=slices, checkpoint=str(place.weights), **tiny)
    place.run(bundle, "train", "smoke", "evaluate", manifest_path=slices, checkpoint=str(place.weights),
              output_dir=str(place.made / "evaluated"), **tiny)  # fmt: skip
    folds = place.made / "folds"
    place.run(bundle, "cross_validate", manifest_path=slices, scale="smoke", bone="trabecular", output_dir=str(folds),
              options=tiny, folds=[0, 1])  # fmt: skip
    place.run(bundle, "report", results={"cnn": str(folds)}, output_dir=str(place.made / "report"))
    place.refuse_leaks()
    _all_that_is_promised(place, "*.pt", "*.html", "*.tfm", "results.json", "slices.csv")


def test_coarse_scans_of_a_fine_one(place: Place) -> None:
    scan = place.given / f"{FOLDER}.isq"
    field = gaussian_filter(np.random.default_rng(0).normal(size=(160, 44, 44)), 4)
    write_isq(scan, np.where(field > 0.01, 3000, 1000).astype(np.int16), voxel_um=(10, 10, 10))
    command("rescan", scan, place.made / FOLDER)
    place.refuse_leaks()
    assert list(place.made.rglob("zarr.json"))


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_a_bundle_with_weights_of_a_training(kind: str, place: Place) -> None:
    """Trained under a patient's name, packed under the bundle's; a card that names somebody is refused."""
    torch.save({"model": {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, "log": [NAME, str(place.given)]},
               place.given / f"{FOLDER}.pt")  # fmt: skip
    card = {**CARD, "sha256": sha256(place.given / f"{FOLDER}.pt")}
    weights = (place.given / f"{FOLDER}.pt").read_bytes()
    bundle = write_bundle(place.given / "small_bundle", {"models/model.pt": weights, "models/model.json": card})
    told = command("bundle", "pack", bundle, "-o", place.made / f"{FOLDER}{kind}", "--wheel")
    assert "only the network's state" in told
    place.refuse_leaks()
    for said in ("PatientName: Mustermann^Erika", f"born 1961-04-12 in {place.given}"):
        write_bundle(bundle, {"models/model.pt": weights, "models/model.json": {**card, "note": said}})
        command("bundle", "pack", bundle, "-o", place.made / f"second{kind}", code=2)
    assert [path.name for path in place.made.iterdir()] == [f"{FOLDER}{kind}"]

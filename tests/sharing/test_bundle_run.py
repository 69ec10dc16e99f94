from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bonemonai.engines import provenance
from bonemonai.errors import BonemonaiError, InputError
from bonemonai.sharing.bundle_files import bundle_files, code_digest
from bonemonai.sharing.bundle_run import parse_option, run_bundle
from tests.sharing.small_bundle import write_bundle

WORKFLOW: dict[str, Any] = {
    "_desc_": "Measures.",
    "imports": ["$import bonemonai", "$import pathlib"],
    "bundle_root": "$bonemonai.engines.find_bundle_root()",
    "dataset_dir": None,
    "output_dir": "$str(pathlib.Path(@bundle_root) / 'eval')",
    "seed": 0,
    "width": 2,
    "about": "$bonemonai.engines.provenance(inputs={})",
    "data": [1, 2],
    "loader": {"_target_": "DataLoader", "dataset": "@data", "batch_size": "@width"},
    "evaluator": {"_target_": "SupervisedEvaluator", "device": "$torch.device('cpu')", "val_data_loader": "@loader",
                  "network": {"_target_": "torch.nn.Identity"}, "epoch_length": "$len(@loader)",
                  "prepare_batch": "$lambda batch, *a, **k: (batch, None)"},
    "initialize": ["$bonemonai.engines.check_run(inputs={'dataset_dir': @dataset_dir})", "$@bundle_root",
                   "$@output_dir",
                   "$bonemonai.data.write_json(pathlib.Path(@output_dir) / 'results.json', @about)"],
    "run": ["$@evaluator.run()"],
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    wide = {"_desc_": "Overlay of measure.json: wide.", "width": 1}
    return write_bundle(tmp_path / "small", {"configs/measure.json": WORKFLOW, "configs/wide.json": wide})


def run(bundle: Path, workflow: str = "measure", overlays: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    given = {"dataset_dir": str(bundle), "output_dir": str(bundle.parent / "out"), **options}
    path = run_bundle(bundle, workflow, overlays, given)
    assert path is not None
    return dict(json.loads(path.read_text()))


def refusal(bundle: Path, *arguments: Any, **options: Any) -> str:
    with pytest.raises(BonemonaiError) as caught:
        run(bundle, *arguments, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_run_and_its_record(bundle: Path) -> None:
    record = run(bundle, overlays=("wide",), seed=3)
    assert (record["outcome"], record["workflow"], record["overlays"], record["seed"]) == (
        "done",
        "measure",
        ["wide"],
        3,
    )
    assert record["config"]["width"] == record["values"]["width"] == 1
    assert record["config"]["output_dir"] == record["values"]["dataset_dir"] == "<path>"
    assert record["inputs"].keys() == {"dataset_dir"}
    results = json.loads((bundle.parent / "out" / "results.json").read_text())
    assert results["run_record"] == "measure.run.json"
    assert "run_record" not in provenance({})
    assert str(bundle.parent) not in json.dumps(record)


def test_an_overlay_of_ones_own_may_name_places_and_is_not_named(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "Mustermann.json"
    own.write_text(json.dumps({"output_dir": str(tmp_path / "mine")}))
    path = run_bundle(bundle, "measure", [str(own)], {"dataset_dir": str(bundle)})
    assert path == tmp_path / "mine" / "measure.run.json"
    record = json.loads(path.read_text())
    assert record["overlays"] == ["a file of the user's"]
    assert record["config"]["output_dir"] == "<path>"
    assert "Mustermann" not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("mesure",), {}, "mesure: is none of this bundle's; did you mean measure?"),
        (("wide",), {}, "wide: is an overlay: run"),
        (("measure", ("wid",)), {}, "did you mean wide?"),
        (("measure", ("no/such.json",)), {}, "no such file (--overlay)"),
        ((), {"widht": 3}, "--widht: is no option of this config; did you mean --width?"),
        ((), {"config_file": "x"}, "--set config_file: is MONAI's own"),
        ((), {"dataset_dir": "/no/such"}, "/no/such: no such file or folder (--dataset_dir)"),
        ((), {"data": []}, "data: are empty: nothing comes out of the data loader."),
        ((), {"width": "broad"}, "--width: is a number, such as 2, got 'broad'."),
        ((), {"data": "$open('/etc/passwd')"}, "--trust-code"),
        ((), {"loader#batch_size": -3}, "batch_size"),
        ((), {"evaluator#networ": 3}, "networ"),
    ],
)
def test_refusals(bundle: Path, arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    assert words in refusal(bundle, *arguments, **options)


def test_a_failure_is_one_line_and_in_the_record(bundle: Path) -> None:
    with pytest.raises(BonemonaiError) as caught:
        run(bundle, **{"evaluator#prepare_batch": "$lambda batch, *a, **k: {}[5]"})
    assert str(caught.value) == "run: fails: KeyError: 5"
    assert isinstance(caught.value.__cause__, RuntimeError)
    record = json.loads((bundle.parent / "out" / "measure.run.json").read_text())
    assert (record["outcome"], record["kind"]) == ("refused", "BonemonaiError")


def test_a_refusal_is_recorded_where_a_record_is_asked_for(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_bundle(bundle, "measure", [], {"dataset_dir": "/no/such"}, record=tmp_path / "r.json")
    record = json.loads((tmp_path / "r.json").read_text())
    assert (record["outcome"], record["exit_code"], record["kind"]) == ("refused", 2, "InputError")


def test_versions(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["numpy_version"] = "99.1"
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    assert "numpy 99.1 (here " in run(bundle)["older_than_the_bundles"][0]
    assert "older here than what the bundle was made with: numpy 99.1" in caplog.text
    metadata["required_packages_version"]["bonemonai"] = "99.0"
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    assert "was made with a later version: numpy 99.1" in refusal(bundle)


def test_sigterm_stops_it_and_is_recorded(bundle: Path) -> None:
    slow = "$[*map(lambda second: __import__('time').sleep(second), [30])]"
    digest = refusal(bundle, data=slow).split("--trust-code ")[1].rstrip(".")
    begun = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    begun.start()
    options = {"dataset_dir": str(bundle), "output_dir": str(bundle.parent / "out"), "data": slow}
    before = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        run_bundle(bundle, "measure", [], options, trust_code=digest, record=bundle.parent / "r.json")
    assert caught.value.code == 143
    assert time.monotonic() - before < 25
    assert json.loads((bundle.parent / "r.json").read_text())["outcome"] == "stopped"


def test_what_no_bundle_is(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(InputError, match="is no folder of a bundle"):
        run_bundle(tmp_path / "none", "train")
    shutil.rmtree(bundle / "configs")
    with pytest.raises(InputError, match="is no bundle"):
        run_bundle(bundle, "train")


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=3", 3), ("a=1e-3", 0.001), ("a=[1, 'b']", [1, "b"]), ("a=true", True), ("a=False", False), ("a=null", None),
     ("a=None", None), ("a=L1", "L1"), ("a=", ""), ("a=x=y", "x=y"), ("a=$[1]", "$[1]"), ("a=/b/c", "/b/c")],
)  # fmt: skip
def test_options_as_typed(text: str, value: Any) -> None:
    assert parse_option(text) == ("a", value)


@pytest.mark.parametrize("text", ["a", "=3", " =3"])
def test_what_is_no_option(text: str) -> None:
    with pytest.raises(InputError, match="takes id=value"):
        parse_option(text)


@pytest.mark.parametrize("place", ["{bundle}/../own.json", "{bundle}/eval/own.json", "{bundle}/configs/own.run.json"])
def test_what_is_no_part_of_the_bundle_is_scanned_wherever_it_lies(place: str, bundle: Path) -> None:
    own = Path(place.format(bundle=bundle))
    own.parent.mkdir(exist_ok=True)
    own.write_text(json.dumps({"seed": "$__import__('os').getpid()", "output_dir": "/data/Erika"}))
    with pytest.raises(InputError, match="--trust-code"):
        run_bundle(bundle, "measure", [str(own)], {"dataset_dir": str(bundle)})


def test_trust_in_the_bundle_is_no_trust_in_an_overlay(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    digest = code_digest(bundle_files(bundle))
    own.write_text(json.dumps({"seed": "$int(__import__('os').getpid() > 0)"}))
    options = {"dataset_dir": str(bundle), "output_dir": str(tmp_path / "out")}
    with pytest.raises(InputError, match="is not the digest"):
        run_bundle(bundle, "measure", [str(own)], options, trust_code=digest)
    with pytest.raises(InputError) as caught:
        run_bundle(bundle, "measure", [str(own)], options)
    trusted = str(caught.value).split("--trust-code ")[1].rstrip(".")
    assert run_bundle(bundle, "measure", [str(own)], options, trust_code=trusted) is not None
    own.write_text(json.dumps({"seed": "$int(__import__('os').getpid() > 1)"}))
    with pytest.raises(InputError, match="is not the digest"):
        run_bundle(bundle, "measure", [str(own)], options, trust_code=trusted)


@pytest.mark.parametrize("text", ["dataset_dir=2024", "checkpoint=1e3", "output_dir=True"])
def test_names_of_files_stay_as_they_are_typed(text: str) -> None:
    assert parse_option(text)[1] == text.split("=")[1]


@pytest.mark.parametrize("text", ["checkpoint=null", "weights={'a': 'b'}", "segmentation=None"])
def test_what_is_no_name_of_a_file(text: str) -> None:
    assert not isinstance(parse_option(text)[1], str)

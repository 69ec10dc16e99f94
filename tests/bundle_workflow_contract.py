"""Of every bundle's contract: train, evaluate and infer, from any folder and beside another bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bonemonai.engines.weights import sha256
from tests.bundle_case import BundleCase
from tests.bundle_runs import BundleRuns

# run beside another bundle, with the weights that they ship: name, fixture, pattern of a scan
NEIGHBOURS = (
    ("femur_srmct_osteoporosis_mga", "study", "*/image"),
    ("microct_super_resolution", "murine_study", "*/lr_1.aim"),
)


@dataclass
class Ran:
    """What came of a bundle's workflows, run one after the other from a folder that has nothing to do with it.

    Attributes:
        options: of each workflow, with the paths filled in.
        missing: by a stand-alone workflow's configs, MONAI's properties that it lacks.
        roots: by a workflow's configs, the ``bundle_root`` it ran with.
        strayed: names that stood in the working directory afterwards, which no option had named.
    """

    options: list[dict[str, Any]]
    missing: dict[str, list[str]]
    roots: dict[str, str]
    strayed: list[str]


class WorkflowContract:
    """See :class:`tests.bundle_contract.BundleContract`."""

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, case: BundleCase, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A copy of its data: a step may write beside its manifest."""
        return shutil.copytree(request.getfixturevalue(case.study), tmp_path_factory.mktemp("data") / case.study)

    @pytest.fixture(scope="class")
    @classmethod
    def runs(cls, case: BundleCase) -> BundleRuns:
        return BundleRuns(case.folder)

    @pytest.fixture(scope="class")
    @classmethod
    def ran(cls, case: BundleCase, runs: BundleRuns, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
        work, elsewhere = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("elsewhere")
        places = {"study": data, "scan": sorted(data.glob(case.scan))[0], "work": work}
        ran = Ran([], {}, {}, [])
        with pytest.MonkeyPatch.context() as patch, runs.untouched():
            patch.chdir(elsewhere)
            for step in case.workflows:
                options = {
                    key: value.format(**places) if isinstance(value, str) else value
                    for key, value in step.options.items()
                }
                workflow = runs.workflow(
                    *step.configs, **options, **({"workflow_type": step.kind} if step.kind else {})
                )
                name = " ".join(step.configs)
                if step.kind is not None:
                    ran.missing[name] = workflow.check_properties()
                workflow.run()
                ran.roots[name] = workflow.parser.get_parsed_content("bundle_root")
                ran.options.append(options)
        ran.strayed += [path.name for path in elsewhere.iterdir()]
        return ran

    def test_every_stand_alone_workflow_has_monais_properties(self, case: BundleCase, ran: Ran) -> None:
        configs = {file.stem: json.loads(file.read_text()) for file in (case.folder / "configs").glob("*.json")}
        alone = {name for name, config in configs.items() if {"bundle_root", "network_def"} <= config.keys()}
        assert {step.configs[0] for step in case.workflows if step.kind is not None} == alone
        assert {name: found for name, found in ran.missing.items() if found} == {}

    def test_runs_from_another_folder_and_leaves_nothing_there(self, case: BundleCase, ran: Ran) -> None:
        assert set(ran.roots.values()) == {str(case.folder)}
        assert ran.strayed == []
        for options in ran.options:
            for name in {"checkpoint", "output_dir"} & options.keys():
                assert Path(options[name]).exists(), options[name]

    def test_two_bundles_in_one_process_do_not_meet(
        self, case: BundleCase, runs: BundleRuns, ran: Ran, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        number = next(number for number, step in enumerate(case.workflows) if step.kind == "inference")
        own = (runs, case.workflows[number].configs, ran.options[number])
        name, study, pattern = next(other for other in NEIGHBOURS if other[0] != case.folder.name)
        scan = sorted(request.getfixturevalue(study).glob(pattern))[0]
        neighbour = (BundleRuns(name), ("inference",), {"dataset_dir": str(scan)})
        _infer([neighbour], tmp_path / "neighbour")
        _infer([own, neighbour], tmp_path / "both")
        assert _digests(tmp_path / "both" / "1") == _digests(tmp_path / "neighbour" / "0")
        assert _digests(tmp_path / "both" / "0") == _digests(Path(own[2]["output_dir"]))


def _infer(calls: list[tuple[BundleRuns, tuple[str, ...], dict[str, Any]]], folder: Path) -> None:
    """Make all workflows before any is run, and run the last one first."""
    started = [
        runs.workflow(*configs, **{**options, "output_dir": str(folder / str(number))})
        for number, (runs, configs, options) in enumerate(calls)
    ]
    for workflow in reversed(started):
        workflow.run()
    for workflow, (runs, _, _) in zip(started, calls, strict=True):
        assert workflow.parser.get_parsed_content("bundle_root") == str(runs.folder)


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}

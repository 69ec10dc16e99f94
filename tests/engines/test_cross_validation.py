from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from bonemonai.engines import CrossValidation
from bonemonai.errors import InputError, OutputError, ResumeError

# configs that write what they were given, in place of a training
STEP = {
    "fold": None, "checkpoint": None, "manifest_path": None, "output_dir": None, "overwrite": False, "seed": 0,
    "imports": ["$import pathlib", "$import json"],
}  # fmt: skip


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, list[str]]:
    write = "$pathlib.Path(@checkpoint).write_text(json.dumps([@fold, @seed]))"
    calls = "len(list(pathlib.Path(@manifest_path).parent.glob('call_*')))"
    count = f"$pathlib.Path(@manifest_path).with_name('call_%02d' % {calls}).write_text(str(@fold))"
    (tmp_path / "train.json").write_text(json.dumps({**STEP, "run": [write, count]}))
    check = "$pathlib.Path(@output_dir, 'predictions.csv').write_text(pathlib.Path(@checkpoint).read_text())"
    rest = [f"$pathlib.Path(@output_dir, '{name}').touch()" for name in ("scores.csv", "results.json")]
    (tmp_path / "evaluate.json").write_text(json.dumps({**STEP, "run": [check, *rest]}))
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "scan").write_text("grey values")
    (tmp_path / "manifest.csv").write_text("patient,image\nA,scan\n")
    return {"train": [str(tmp_path / "train.json")], "evaluate": [str(tmp_path / "evaluate.json")]}


def validation(tmp_path: Path, configs: dict[str, list[str]], **options: Any) -> CrossValidation:
    arguments: dict[str, Any] = {"folds": [0, 1, 2], "options": {"seed": 4}, **options}
    return CrossValidation(output_dir=tmp_path / "out", manifest_path=tmp_path / "manifest.csv", **configs, **arguments)


def trained(tmp_path: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(tmp_path.glob("call_*"))]


def test_every_fold_is_trained_then_evaluated_with_its_options(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    folds = validation(tmp_path, configs)
    assert not folds.is_complete
    assert folds.run()
    assert trained(tmp_path) == [0, 1, 2]
    assert [json.loads((folds.folder(k) / "predictions.csv").read_text()) for k in range(3)] == [[0, 4], [1, 4], [2, 4]]


def test_the_same_call_passes_over_what_is_done(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    validation(tmp_path, configs, folds=[0, 2]).run()
    (tmp_path / "out" / "fold_02" / "done.json").unlink()  # as a kill would leave it
    assert validation(tmp_path, configs).run()
    assert trained(tmp_path) == [0, 2, 1, 2]


def test_what_changed_is_named_and_refused(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    validation(tmp_path, configs).run()
    with pytest.raises(ResumeError, match="was done with other options"):
        validation(tmp_path, configs, options={"seed": 5}).run()
    (tmp_path / "manifest.csv").write_text("patient,image\nB,scan\n")
    with pytest.raises(ResumeError, match="was done with other manifest"):
        validation(tmp_path, configs).run()
    (tmp_path / "manifest.csv").write_text("patient,image\nA,scan\n")
    (tmp_path / "scan").write_text("other values")
    with pytest.raises(ResumeError, match="was done with other data"):
        validation(tmp_path, configs).run()
    assert validation(tmp_path, configs, overwrite=True).run()
    assert trained(tmp_path) == [0, 1, 2, 0, 1, 2]


def test_a_fold_that_another_process_works_on_is_left_to_it(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".fold_01.lock"):
        assert not validation(tmp_path, configs).run()
    assert trained(tmp_path) == [0, 2]
    assert validation(tmp_path, configs).run()


def test_weights_may_be_dropped(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    folds = validation(tmp_path, configs, keep_weights=False)
    assert folds.run()
    assert not list((tmp_path / "out").glob("*/model.pt"))
    assert folds.is_complete


def test_refusals(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    with pytest.raises(InputError, match="must leave checkpoint, fold to the cross-validation"):
        validation(tmp_path, configs, options={"fold": 1, "checkpoint": "x"})
    with pytest.raises(InputError, match=r"smok\.json: no such config"):
        validation(tmp_path, {**configs, "train": [*configs["train"], "smok.json"]})
    for folds in ([], [-1]):
        with pytest.raises(InputError, match="must be numbers from 0, at least one"):
            validation(tmp_path, configs, folds=folds)


def test_a_fold_whose_results_are_lost_is_made_again(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    folds = validation(tmp_path, configs)
    folds.run()
    (folds.folder(1) / "predictions.csv").unlink()
    assert not folds.is_complete
    assert validation(tmp_path, configs).run()
    assert trained(tmp_path) == [0, 1, 2, 1]


def test_all_folds_of_a_folder_are_pooled(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    validation(tmp_path, configs, folds=[0, 2]).run()
    later = validation(tmp_path, configs, folds=[1])
    later.run()
    assert [path.name for path in later.done_folders] == ["fold_00", "fold_01", "fold_02"]


def test_files_of_somebody_else_are_left_alone(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    (tmp_path / "out" / "fold_00").mkdir(parents=True)
    (tmp_path / "out" / "fold_00" / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match="holds files that no cross-validation made"):
        validation(tmp_path, configs).run()
    assert (tmp_path / "out" / "fold_00" / "thesis.docx").exists()


def test_a_file_that_an_option_names_counts_by_its_content_and_is_not_named(
    tmp_path: Path, configs: dict[str, list[str]]
) -> None:
    (tmp_path / "somebody.pth").write_text("weights")
    options = {"seed": str(tmp_path / "somebody.pth")}
    folds = validation(tmp_path, configs, options=options)
    folds.run()
    assert "somebody" not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    (tmp_path / "somebody.pth").write_text("other weights")
    with pytest.raises(ResumeError, match="was done with other options"):
        validation(tmp_path, configs, options=options).run()


def test_pooling_waits_for_all_folds_and_for_other_processes(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    pooled: list[list[str]] = []

    def pool(folder: Path, folders: list[Path]) -> None:
        # another process would have to wait
        with pytest.raises(Timeout), FileLock(folder / ".pool.lock", timeout=0, is_singleton=False):
            pass
        pooled.append([path.name for path in folders])

    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".fold_01.lock"):
        assert not validation(tmp_path, configs).run(pool)
    assert pooled == []
    assert validation(tmp_path, configs).run(pool)
    assert pooled == [["fold_00", "fold_01", "fold_02"]]


def test_pooled_results_of_other_options_do_not_outlive_them(tmp_path: Path, configs: dict[str, list[str]]) -> None:
    validation(tmp_path, configs).run(lambda folder, folders: (folder / "scores.csv").touch())
    validation(tmp_path, configs, options={"seed": 5}, folds=[0], overwrite=True).run()
    assert not (tmp_path / "out" / "scores.csv").exists()

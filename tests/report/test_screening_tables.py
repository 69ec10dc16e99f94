from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES, read_reader_study, reader_agreement, scores_of_confusion
from bonemonai.report.screening_inputs import LEVELS, Screening, read_screenings
from bonemonai.report.screening_tables import (
    NETWORK,
    PAPER_FIG_7,
    PAPER_TABLE_4,
    PAPER_TABLE_5,
    PAPER_TABLE_6,
    distinct_marks,
    kappa_rows,
    table_3,
    table_4,
    table_5,
    table_6,
)
from tests.conftest import ROOT
from tests.report.screening_runs import write_run

READERS = ROOT / "data_manifests" / "paper_tang_readers.csv"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Screening]:
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "bcc_net": write_run(folder / "a", copies=1), "densenet_1": write_run(folder / "b", "densenet_1", copies=1),
        "densenet_2": write_run(folder / "c", "densenet_2", seed=3, masks=False),
    }  # fmt: skip
    return read_screenings(runs)


def test_the_paper_s_figures_agree_with_each_other() -> None:
    """Fig. 7 gives Table 4's precisions and Table 5's accuracy; its AUC is Table 4's mean; Table 6 repeats them."""
    shipped = pd.read_csv(ROOT / "data_manifests" / "paper_tang_confusion.csv", index_col="diagnosis")
    assert shipped.to_numpy().tolist() == [list(row) for row in PAPER_FIG_7]
    assert shipped.columns.tolist() == shipped.index.tolist() == list(SCREENING_CLASSES)
    scores = scores_of_confusion(shipped).set_index(["class", "metric"])["value"]
    for name in SCREENING_CLASSES:
        assert scores[name, "precision"] == pytest.approx(PAPER_TABLE_4[name, "precision"], abs=1e-4)
    assert scores["all", "accuracy"] == pytest.approx(PAPER_TABLE_5["bcc_net", "accuracy"], abs=1e-4)
    mean = np.mean([PAPER_TABLE_4[name, "auc"] for name in SCREENING_CLASSES])
    assert mean == pytest.approx(PAPER_TABLE_5["bcc_net", "auc"], abs=1e-4)
    precisions = [PAPER_TABLE_4[name, "precision"] for name in SCREENING_CLASSES]
    assert list(PAPER_TABLE_6[NETWORK]) == [PAPER_TABLE_5["bcc_net", "accuracy"], *precisions]


def test_marks_that_are_shared_stand_once(found: list[Screening]) -> None:
    assert [(models, each.name) for models, each in distinct_marks(found)] == [("BCC-Net, DenseNet-1", "bcc_net")]
    table = table_3(found)
    assert table["paper"].tolist() == [0.9992, 0.9984, 0.9991]
    assert table["metric"].tolist() == ["dice_index", "iou", "pixel_accuracy"]
    scores = found[0].overlaps
    assert scores is not None
    for level, row in itertools.product(LEVELS, table.to_dict("records")):
        own = scores[(scores["level"] == level) & (scores["metric"] == row["metric"])].iloc[0]
        assert [row[level], row[f"{level}_low"], row[f"{level}_high"]] == own[["value", "low", "high"]].tolist()
    assert table[["subjects", "slices", "left_out"]].to_numpy().tolist() == [[21, 84, 0]] * 3


def test_without_marks_the_paper_stands_alone(found: list[Screening]) -> None:
    table = table_3(found[2:])
    assert table["models"].tolist() == [""] * 3
    assert table["paper"].notna().all()
    assert table.drop(columns=["models", "metric", "paper"]).isna().all(axis=None)


def test_conditions_one_by_one(found: list[Screening]) -> None:
    table = table_4(found).set_index(["model", "class", "metric"])
    assert table.index.get_level_values("model").unique().tolist() == ["bcc_net", "densenet_1", "densenet_2"]
    for (name, metric), paper in PAPER_TABLE_4.items():
        assert table["paper"]["bcc_net", name, metric] == paper
        assert np.isnan(table["paper"]["densenet_1", name, metric])
    scores = pd.concat([each.scores.assign(model=each.name) for each in found if each.scores is not None])
    own = scores.set_index(["model", "class", "metric", "interval", "level"]).sort_index()
    for key, row in table.iterrows():
        for level in LEVELS:
            place = (*key, "bootstrap", level)  # type: ignore[misc]
            if place not in own.index:
                assert (key[0], level) == ("densenet_2", "image")  # type: ignore[index]
                assert np.isnan(row[level])
                continue
            assert row[level] == own.loc[place, "value"]
            assert row[f"{level}_low"] == pytest.approx(own.loc[place, "low"], nan_ok=True)
    delong = own.loc[("bcc_net", "normal", "auc", "DeLong", "subject"), "low"]
    assert table["subject_delong_low"]["bcc_net", "normal", "auc"] == delong
    assert np.isnan(table["subject_delong_low"]["bcc_net", "normal", "precision"])


def test_models_side_by_side(found: list[Screening]) -> None:
    table = table_5(found[1:]).set_index(["model", "metric"])
    assert table.index.get_level_values(0).unique().tolist() == ["bcc_net", "densenet_1", "densenet_2", "densenet121"]
    for key, paper in PAPER_TABLE_5.items():
        assert table["paper"][key] == paper
    assert np.isnan(table["subject"]["bcc_net", "accuracy"])
    confusion = found[1].confusion["subject"].to_numpy()
    assert table["subject"]["densenet_1", "accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum(), rel=1e-5)
    others = table_5([found[0]._replace(name="ours")])
    assert others["model"].iloc[-1] == "ours"
    assert others["paper"].isna().tolist()[-2:] == [True, True]


def test_readers_give_the_paper_s_table(found: list[Screening]) -> None:
    """Appendix A gives Table 6 to all four digits; the network's row is the run's."""
    table = table_6(found, read_reader_study(READERS))
    readers = table[table["reader"] != NETWORK]
    np.testing.assert_allclose(readers["value"], readers["paper"], atol=5e-5)
    assert len(readers) == 12
    assert set(readers["subjects"]) == {63}
    network = table[table["reader"] == NETWORK].set_index(["class", "metric"])
    assert network["paper"].tolist() == list(PAPER_TABLE_6[NETWORK])
    confusion = found[0].confusion["subject"]
    for name in SCREENING_CLASSES:
        expected = confusion.loc[name, name] / confusion[name].sum()
        assert network["value"][name, "precision"] == pytest.approx(expected, rel=1e-5)
    assert set(network["subjects"]) == {21}


def test_without_readings_the_paper_stands_alone(found: list[Screening]) -> None:
    table = table_6(found[1:], None)
    assert table["reader"].unique().tolist() == list(PAPER_TABLE_6)
    assert table["value"].isna().all()
    assert table["paper"].notna().all()


def test_other_readers_are_no_paper_s(tmp_path: Path, found: list[Screening]) -> None:
    readings = read_reader_study(READERS).rename(columns={"radiologist_1": "BCC-Net"})[["subject", "truth", "BCC-Net"]]
    table = table_6(found, readings)
    assert table["reader"].unique().tolist() == ["BCC-Net", NETWORK]
    assert table["paper"][table["reader"] == "BCC-Net"].isna().all()
    assert set(table["subjects"][table["reader"] == "BCC-Net"]) == {63}


def test_kappas_as_rows() -> None:
    agreement = reader_agreement(read_reader_study(READERS), resamples=50)
    rows = kappa_rows(agreement)
    assert len(rows) == len(agreement) == 6 * 3 + 1
    assert rows[["reader", "metric"]].iloc[0].tolist() == ["truth / radiologist_1", "kappa, Cohen"]
    assert rows[["reader", "metric"]].iloc[-1].tolist() == ["all readers", "kappa, Fleiss"]
    np.testing.assert_array_equal(rows["value"], agreement["value"])

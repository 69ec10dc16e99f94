from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis.bone_verdict import JUDGED, error_reach, judge_network
from bonemonai.errors import InputError


def agreement(reach: dict[str, tuple[float, float, float]], bias: float = 0.0) -> pd.DataFrame:
    """Limits that lie as far below 0 as above it; (lr, bicubic, dl) of each quantity."""
    rows = []
    for quantity, values in reach.items():
        for method, value in zip(("lr", "bicubic", "dl"), values, strict=True):
            rows.append({"quantity": quantity, "method": method, "bias": bias, "lower_limit": -value,
                         "upper_limit": 0.5 * value, "pairs": 4, "missing": 0})  # fmt: skip
    return pd.DataFrame(rows)


def overlap(lost: tuple[float, float, float] = (0.2, 0.15, 0.1)) -> pd.DataFrame:
    return pd.DataFrame(
        [{"specimen": s, "method": method, "dice": 0.9, "lost": share, "invented": 0.05}
         for s in "ab" for method, share in zip(("lr", "bicubic", "dl"), lost, strict=True)]
    )  # fmt: skip


def quality(psnr: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"specimen": s, "method": method, "psnr_db": value, "ssim": 0.9}
         for s in "ab" for method, value in zip(("lr", "bicubic", "dl"), psnr, strict=True)]
    )  # fmt: skip


CUBIC = "as near or nearer by cubic interpolation"
BETTER = dict.fromkeys(JUDGED, (0.3, 0.2, 0.1))
MIXED = {**BETTER, "Tb.Th": (0.3, 0.1, 0.2)}
WORSE = dict.fromkeys(JUDGED, (0.3, 0.2, 0.25))


@pytest.mark.parametrize(
    ("reach", "psnr", "words", "misleads"),
    [
        (BETTER, (20, 22, 25), "A better image and better bone.", False),
        (BETTER, (20, 26, 25), "No better image, but better bone.", False),
        (MIXED, (20, 22, 25), f"A better image, but bone better in BA/TA and Tb.Sp only: Tb.Th {CUBIC}.", True),
        (WORSE, (20, 22, 25), f"A better image, but no better bone: BA/TA, Tb.Th and Tb.Sp {CUBIC}.", True),
        (WORSE, (20, 26, 25), f"No better image and no better bone: BA/TA, Tb.Th and Tb.Sp {CUBIC}.", False),
    ],
)
def test_bone_is_judged_first(
    reach: dict[str, tuple[float, float, float]], psnr: tuple[float, float, float], words: str, misleads: bool
) -> None:
    found = judge_network(agreement(reach), overlap(), quality(psnr))
    assert found.words == words
    assert found.misleads is misleads
    assert found.sentences[-1].startswith("Mean PSNR 25.00 dB (the coarse scan 20.00 dB")


def test_what_wins_psnr_and_loses_trabeculae_is_seen() -> None:
    found = judge_network(agreement(BETTER), overlap((0.2, 0.05, 0.3)), quality((20, 22, 25)))
    assert found.loses
    assert found.misleads
    assert "more of it is lost" in found.words
    assert (
        "30.0 % of the fine scans' bone is lost (the coarse scan 20.0 %, cubic interpolation 5.0 %)"
        in (found.sentences[1])
    )


def test_no_bone_left_is_worse_whatever_its_limits_elsewhere() -> None:
    table = agreement(BETTER)
    gone = (table["method"] == "dl") & (table["quantity"] == "Tb.Th")
    table.loc[gone, "missing"] = 2
    table.loc[gone, ["lower_limit", "upper_limit"]] = np.nan  # of two specimens that are left
    found = judge_network(table, overlap())
    assert found.worse == {"Tb.Th": "cubic interpolation"}
    assert not found.loses  # by the shares it does not
    assert found.wins_image is None
    assert found.sentences[1].endswith("In 2 specimens it leaves no bone, or no space, to measure.")
    # and where only the others leave none, the network is better, though its limits hold the hard specimen
    table = agreement(dict.fromkeys(JUDGED, (0.01, 0.01, 0.2)))
    table.loc[table["method"] != "dl", "missing"] = 1
    assert judge_network(table, overlap()).better == JUDGED


def test_reach_is_the_farther_limit_or_the_bias() -> None:
    reach = error_reach(agreement(BETTER))
    assert reach["BA/TA"] == {"lr": 0.3, "bicubic": 0.2, "dl": 0.1}
    few = agreement(BETTER, bias=-0.4).drop(columns=["lower_limit", "upper_limit"])
    assert {value for of_it in error_reach(few).values() for value in of_it.values()} == {0.4}
    found = judge_network(few.assign(pairs=2), overlap())
    assert found.better == ()  # equal is no better
    assert found.sentences[-1].startswith("By the bias alone")


def test_a_network_must_be_there() -> None:
    table = agreement(BETTER)
    with pytest.raises(InputError, match="must have BA/TA, Tb"):
        judge_network(table[table["method"] != "dl"], overlap())
    with pytest.raises(InputError, match="must have BA/TA, Tb"):
        judge_network(table[table["quantity"] != "Tb.Sp"], overlap())
    with pytest.raises(InputError, match="overlap: must have dl, lr, bicubic"):
        judge_network(table, overlap().query("method != 'lr'"))

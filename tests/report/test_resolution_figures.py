from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from bonemonai.analysis.bone_verdict import JUDGED
from bonemonai.report import resolution_figures
from bonemonai.report.resolution_figures import INVENTED, LOST, bland_altman_figure, panel_figure, quality_figure
from bonemonai.report.resolution_inputs import Panel, Resolution, read_resolutions
from tests.report.resolution_folder import write_evaluation


@pytest.fixture
def found(tmp_path: Path) -> Resolution:
    return read_resolutions({"x": write_evaluation(tmp_path / "a")})[0]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are before they are pixels."""
    figures: list[Figure] = []
    original = resolution_figures.data_url
    monkeypatch.setattr(resolution_figures, "data_url", lambda figure: (figures.append(figure), original(figure))[1])
    return figures


def pixels(url: str) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(base64.b64decode(url.split(",")[1])), format="png"))


def test_lost_bone_is_orange_and_invented_blue(found: Resolution) -> None:
    def count(panel: Panel, colour: str) -> int:
        image = pixels(panel_figure(panel, found.planes))[..., :3]
        wanted = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
        grey = 0.25 * np.array([[[0.0]], [[1.0]]]) + 0.75 * wanted  # over black or white
        return int((np.abs(image[None] - grey[:, None]).max(axis=-1) < 0.02).any(axis=0).sum())

    panel = found.panels[0]
    legend = count(panel._replace(bone=dict.fromkeys(panel.bone, panel.bone["hr"])), LOST)
    assert count(panel, LOST) > legend + 100
    swapped = panel._replace(bone={**panel.bone, "hr": panel.bone["dl"], "dl": panel.bone["hr"]})
    assert count(swapped, INVENTED) > count(panel, INVENTED) + 100


def test_panels_state_their_quality(found: Resolution, drawn: list[Figure]) -> None:
    panel_figure(found.panels[0], found.planes)
    titles = [axis.get_title() for axis in drawn[0].axes[:4]]
    assert titles[2] == "network\nPSNR 25.23 dB, SSIM 0.870"
    assert titles[3] == "fine scan"


def test_quality_has_a_point_a_specimen(found: Resolution, drawn: list[Figure]) -> None:
    quality_figure(found.specimens)
    ssim, psnr = drawn[0].axes
    assert [line.get_label() for line in ssim.lines] == ["coarse scan", "cubic interpolation", "network"]
    expected = found.specimens.query("method == 'dl'")["psnr_db"].to_numpy()
    np.testing.assert_allclose(psnr.lines[2].get_ydata(), expected)


def test_bland_altman_has_differences_bias_and_limits(found: Resolution, drawn: list[Figure]) -> None:
    assert found.morphometry is not None
    assert found.agreement is not None
    bland_altman_figure(found.morphometry, found.agreement, JUDGED)
    axis = drawn[0].axes[2]  # BA/TA of the network
    values = found.morphometry.query("quantity == 'BA/TA'").pivot(index="specimen", columns="method", values="value")
    np.testing.assert_allclose(axis.lines[1].get_ydata(), values["dl"] - values["hr"])
    row = found.agreement.query("quantity == 'BA/TA' and method == 'dl'").iloc[0]
    drawn_at = [line.get_ydata()[0] for line in axis.lines[2:]]
    assert drawn_at == pytest.approx([row["bias"], row["lower_limit"], row["upper_limit"]])
    # a row has one scale, or a narrow plot would look like a wide one
    assert axis.get_ylim() == drawn[0].axes[0].get_ylim()


def test_of_two_specimens_there_are_points_and_a_bias(tmp_path: Path, drawn: list[Figure]) -> None:
    few = read_resolutions({"x": write_evaluation(tmp_path / "few", count=2)})[0]
    assert few.morphometry is not None
    assert few.agreement is not None
    bland_altman_figure(few.morphometry, few.agreement, JUDGED)
    assert len(drawn[0].axes[0].lines) == 3  # 0, points, bias

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator

from bonemonai.engines.ignite_log import _ENGINES, keep_causes_out_of_log
from bonemonai.errors import InputError


def refuse(*_: Any) -> None:
    raise InputError("/data/Mustermann/scan.nii", "is damaged.")


def test_an_engine_logs_that_it_ended_and_not_why(caplog: pytest.LogCaptureFixture) -> None:
    keep_causes_out_of_log()
    keep_causes_out_of_log()
    caplog.set_level(logging.INFO)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), [{"image": torch.zeros(1)}], torch.nn.Identity(), iteration_update=refuse
    )
    with pytest.raises(InputError, match="Mustermann"):
        evaluator.run()
    assert "Engine run is terminating due to exception." in caplog.text
    assert "Engine run resuming" in caplog.text or "Engine run starting" in caplog.text
    assert "Mustermann" not in caplog.text


def test_other_engines_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    keep_causes_out_of_log()
    with pytest.raises(InputError):
        Engine(refuse).run([0])
    assert "Mustermann" in caplog.text


def test_engines_of_this_package_are_among_them() -> None:
    import bonemonai.engines as engines

    found = {name for name in engines.__all__ if isinstance(getattr(engines, name), type)
             and issubclass(getattr(engines, name), Engine)}  # fmt: skip
    assert found
    assert found <= set(_ENGINES)

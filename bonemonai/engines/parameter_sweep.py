"""Vary one option of a training at a time, and cross-validate each setting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from bonemonai.data.json_file import write_json
from bonemonai.engines.cross_validation import CrossValidation
from bonemonai.errors import InputError, NumericalError, find_bonemonai_error

logger = logging.getLogger(__name__)


class ParameterSweep:
    """Cross-validate a baseline, and settings that differ from it in one option each.

    Each setting has a folder of its own, ``baseline``, ``layers_2`` and so on, which is a :class:`CrossValidation`'s:
    the same call resumes, and several processes share its folds.

    Args:
        baseline: option to value.
        values: option to the values it is to take; the baseline's own is not run twice.
        pool: called as ``pool(folder, folders of folds)`` once all folds of a setting are done.
        output_dir: of the settings' folders.
        options: of every run besides.
        cross_validation: further arguments of :class:`CrossValidation`: ``train``, ``evaluate``, ``folds``,
            ``manifest_path``, ``keep_weights``, ``overwrite``.

    Attributes:
        settings: a dictionary each: ``parameter``, ``value``, ``folder``, ``baseline`` (whether it is the baseline,
            which stands once under each option).

    Raises:
        InputError: if an option has no baseline or no value, or values are no numbers or alike.

    Source:
        Shen et al., 2.2, 3.2 and Fig. 3.
    """

    def __init__(
        self,
        baseline: Mapping[str, Any],
        values: Mapping[str, Sequence[Any]],
        pool: Callable[[Path, list[Path]], Any],
        output_dir: str | Path,
        options: Mapping[str, Any] | None = None,
        **cross_validation: Any,
    ) -> None:
        self.pool, self.output_dir = pool, Path(output_dir)
        for parameter, wanted in values.items():
            if parameter not in baseline:
                raise InputError("values", f"vary {parameter!r}, which the baseline does not set.")
            if not wanted:
                raise InputError("values", f"give none to {parameter!r}.")
            if not all(isinstance(value, int | float) for value in wanted):
                raise InputError("values", f"of {parameter!r} must be numbers, got {list(wanted)}.")
            if len({f"{value:g}" for value in wanted}) < len(wanted):
                raise InputError("values", f"of {parameter!r} must differ, in six digits, got {list(wanted)}.")
        self._runs: dict[Path, CrossValidation] = {}
        self.settings: list[dict[str, Any]] = []
        for parameter, wanted in values.items():
            for value in [baseline[parameter], *(value for value in wanted if value != baseline[parameter])]:
                is_baseline = value == baseline[parameter]
                folder = self.output_dir / ("baseline" if is_baseline else f"{parameter}_{value:g}")
                self.settings.append(
                    {"parameter": parameter, "value": value, "folder": folder, "baseline": is_baseline}
                )
                chosen = {**(options or {}), **baseline, parameter: value}
                if folder not in self._runs:
                    self._runs[folder] = CrossValidation(output_dir=folder, options=chosen, **cross_validation)
        self.settings.sort(key=lambda setting: (list(values).index(setting["parameter"]), setting["value"]))

    def run(self, table: Callable[[Path, Sequence[dict[str, Any]]], Any] | None = None) -> list[dict[str, Any]]:
        """Run what is left, one setting after the other.

        Args:
            table: called as ``table(output_dir, settings)`` at the end, by one process at a time.

        Returns:
            :attr:`settings`; folds that other processes are at work on may be missing from their folders.

        A setting whose loss becomes NaN or infinite is a result, too: a warning and ``failed.json`` in its folder say
        so, and the others go on. ``table`` gets those that did not fail.

        Raises:
            ResumeError: if folds were done otherwise.
            NumericalError: if all settings failed.
        """
        failures: dict[Path, NumericalError] = {}
        for folder, run in self._runs.items():
            logger.info("setting %s.", folder.name)
            try:
                run.run(self.pool)
            except Exception as caught:
                # MONAI wraps what a config's expression raises
                error = find_bonemonai_error(caught)
                if not isinstance(error, NumericalError):
                    raise
                # the cause alone: what it is about may be a scan, whose path may name somebody
                logger.warning("setting %s failed: %s", folder.name, error.cause)
                write_json(folder / "failed.json", {"failed": error.cause})
                failures[folder] = error
        if len(failures) == len(self._runs):
            raise next(iter(failures.values()))
        self.settings = [setting for setting in self.settings if setting["folder"] not in failures]
        if table is not None:
            with FileLock(self.output_dir / ".pool.lock"):
                table(self.output_dir, self.settings)
        return self.settings

"""What Ignite logs when a run ends by an error, without the error's text."""

from __future__ import annotations

import logging

# classes that bundles build; each has a logger of its own, and a filter of a parent's does not see its records
_ENGINES = (
    "SupervisedTrainer", "SupervisedEvaluator", "StreamingEvaluator", "ScanScreening", "LumbarScreening",
    "LumbarMultitask",
)  # fmt: skip
_ENDS = "is terminating due to exception"


class _WithoutCause(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        before, ends, _ = record.getMessage().partition(_ENDS)
        if ends:
            record.msg, record.args = f"{before}{ends}.", ()
        return True


_without_cause = _WithoutCause()


def keep_causes_out_of_log() -> None:
    """Let Ignite's engines log that an exception ended a run, and not which.

    A refusal names files, names of files may be those of patients, and logs are kept. The exception is raised as it
    is, so that whoever started the run learns why it ended.
    """
    for name in _ENGINES:
        logging.getLogger(f"ignite.engine.engine.{name}").addFilter(_without_cause)

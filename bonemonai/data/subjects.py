"""Names for the people of a study that tell nobody who they are."""

from __future__ import annotations

from collections.abc import Sequence

from bonemonai.data.manifest import distinct, patient_key


def number_subjects(patients: Sequence[str]) -> list[str]:
    """Give each patient a number, in order of first appearance: what outputs call them by.

    Args:
        patients: ids, one an image; two spellings of one id are one patient, see :func:`bonemonai.data.patient_key`.

    Example:
        >>> number_subjects(["Smith", "Jones", "smith "])
        ['subject_00', 'subject_01', 'subject_00']
    """
    keys = [patient_key(patient) for patient in patients]
    number = {key: index for index, key in enumerate(distinct(keys))}
    return [f"subject_{number[key]:02d}" for key in keys]

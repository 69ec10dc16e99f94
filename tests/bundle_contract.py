"""What every bundle must do; a test class inherits, and its fixture ``case`` says what is special to its bundle."""

from __future__ import annotations

import pytest

from tests.bundle_case import BundleCase
from tests.bundle_export_contract import ExportContract
from tests.bundle_metadata_contract import MetadataContract
from tests.bundle_workflow_contract import WorkflowContract


class BundleContract(MetadataContract, WorkflowContract, ExportContract):
    """For each bundle: ``case`` returns what its checks need; see tests/bundles/test_every_bundle.py for five.

    A bundle that is made in a test needs a case with its own folder, a fixture for its data, small options and its
    networks; nothing else here knows a bundle by name, but for the two that it is run beside.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> BundleCase:
        raise NotImplementedError

# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests in network namespaces."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import lab as lab_module  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture(scope="session", autouse=True)
def _root():
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root", pytrace=False)


@pytest.fixture
def lab(request):
    """Two hosts on a cable; checked for leftovers at the end."""
    with lab_module.Lab(2) as network:
        yield network
        if getattr(request.node, "failed", True):
            print(network.logs())


@pytest.fixture(scope="session")
def build():
    return lab_module.BUILD


@pytest.fixture(scope="session")
def hooks_build():
    return lab_module.hooks_build()

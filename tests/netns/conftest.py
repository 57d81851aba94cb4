# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests in network namespaces."""
import os
import subprocess
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
def hooks_build(build):
    """A build with hooks that slow the reader down; made when missing."""
    path = build.with_name(build.name + "-hooks")
    commands = [["ninja", "-C", path, "monitor/linnet-monitor"]]
    if not (path / "build.ninja").exists():
        commands.insert(0, ["meson", "setup", "-Dtest_hooks=true",
                            "-Dtests=false", path, lab_module.TREE])
    for argv in commands:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return path

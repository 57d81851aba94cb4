# SPDX-License-Identifier: GPL-2.0-or-later
"""The port scan examples: one report for each scan, whenever it comes."""
import ast
import errno
import os
import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pair import ASKED, ROOT, pair, wait_until  # noqa: E402

PORTS = "8008-8092"
N_PORTS = 85
PHASES = 42
# Every source begins this much later than the one before: over the whole
# test at 42 places of the 0.3 s between two questions, and of the 0.1 s
# between two slots of the last second.
STEP_S = 0.3 / PHASES * 8
SOURCES = [f"10.0.0.{i}" for i in range(100, 100 + PHASES)]
SCRIPTS = ["port_scan.py", "port_scan.sh"]


@pytest.fixture(scope="module")
def hosts():
    """The child speaks as 42 hosts, and runs the scripts."""
    with pair(child=False, more=SOURCES) as p:
        yield p


class Watch:
    """A script that watches the asked host; reports: (source, ports) of the
    lines that it has printed."""

    def __init__(self, hosts, script):
        self.process = hosts.child.start([ROOT / "examples" / script, ASKED],
                                         start_new_session=True)

    def __enter__(self):
        wait_until(lambda: "watching" in self.process.log(), 10, "it watches")
        return self

    def __exit__(self, *exc):
        os.killpg(self.process.pid, signal.SIGKILL)     # its group alone
        self.process.wait()

    @property
    def reports(self):
        found = []
        whole_lines = self.process.log().rpartition("\n")[0]
        for line in whole_lines.splitlines():
            words = line.partition("portscan detected. ")[2]
            if words.startswith("{"):
                found += ast.literal_eval(words).items()
            elif words:
                source, number = words.split()
                found.append((source, int(number)))
        return found


def scan(hosts, source):
    return hosts.child.start(["nc", "-z", "-s", source, ASKED, PORTS])


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_report_whenever_it_comes(hosts, script):
    with Watch(hosts, script) as watch:
        began = time.monotonic()
        for i, source in enumerate(SOURCES):
            wait_until(lambda: time.monotonic() >= began + i * STEP_S, 5)
            scan(hosts, source)
        wait_until(lambda: len(watch.reports) >= PHASES, 10, "all reports")
        # and nothing after the last: a second scan is a second report
        again = scan(hosts, SOURCES[0])
        wait_until(lambda: len(watch.reports) > PHASES, 10, "another")
        again.wait()
    assert sorted(watch.reports) == sorted(
        [(source, N_PORTS) for source in [*SOURCES, SOURCES[0]]])


def slow_scan(hosts, source):
    """As nc -z to a host that is 20 ms away."""
    for port in range(8008, 8008 + N_PORTS):
        with hosts.child.socket() as s:
            s.bind((source, 0))
            assert s.connect_ex((ASKED, port)) == errno.ECONNREFUSED
        time.sleep(0.02)  # this is what is tested, not a wait


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_report_of_a_long_scan(hosts, script):
    """All ports of a scan that takes longer than the last second."""
    with Watch(hosts, script) as watch:
        slow_scan(hosts, SOURCES[0])
        wait_until(lambda: watch.reports, 10, "the report")
        slow_scan(hosts, SOURCES[1])
        wait_until(lambda: len(watch.reports) > 1, 10, "another")
    assert watch.reports == [(s, N_PORTS) for s in SOURCES[:2]]


def test_few_ports_are_no_scan(hosts):
    with Watch(hosts, "port_scan.py") as watch:
        hosts.child.start(["nc", "-z", "-s", SOURCES[0], ASKED, "8008-8027"])
        scan(hosts, SOURCES[1])
        wait_until(lambda: watch.reports, 10, "the report")
    assert watch.reports == [(SOURCES[1], N_PORTS)]


def test_a_scan_without_end_is_reported(hosts):
    with Watch(hosts, SCRIPTS[0]) as a, Watch(hosts, SCRIPTS[1]) as b:
        end = time.monotonic() + 60
        port = 2000
        while not (a.reports and b.reports) and time.monotonic() < end:
            with hosts.child.socket() as s:
                s.bind((SOURCES[0], 0))
                s.connect_ex((ASKED, port))
            port += 1
            time.sleep(0.02)  # this is what is tested, not a wait
    for reports in a.reports, b.reports:
        assert [source for source, _ in reports] == [SOURCES[0]]
        assert N_PORTS < reports[0][1] <= port - 2000

# SPDX-License-Identifier: GPL-2.0-or-later
"""Anomalies, from packets to what the examples print: a root, its child, and
a host without linnet that scans the child.  Windows of a second, which a build
with hooks has."""
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/netns"), str(ROOT / "mininet")]
import lab as lab_module  # noqa: E402
from lab import AGENT_UID, MONITOR_UID, Lab, wait_until  # noqa: E402

ROWS = 13
LEARN_S = 120           # twice the rows, and intervals lost on a slow machine
ALARM_S = 30
SCANNED = "9000-9099"
SCAN = f'while nc -z "$1" {SCANNED} || :; do sleep "$2"; done'
SCAN_GAP_S = "0.5"


@pytest.fixture(scope="module")
def hooks_build():
    return lab_module.hooks_build()


def agent(build, host, *args):
    """An agent beside a monitor."""
    host.monitor(build=build)
    return host.start(
        [build / "agent/linnet-agent", "--instance", "lab", "--listen",
         host.ip4, "--insecure", "--user", AGENT_UID, "--monitor-user",
         MONITOR_UID, *args], ready=True).wait_ready()


@pytest.fixture
def lab(hooks_build):
    with Lab(3) as network:
        root, child, _ = network.hosts
        agent(hooks_build, child)
        agent(hooks_build, root, "--child", child.ip4)
        yield network


@pytest.fixture
def background(lab):
    argv = [sys.executable, str(ROOT / "mininet/mix.py"),
            *(f"{host.ip4}={host.path}" for host in reversed(lab.hosts))]
    mix = subprocess.Popen(argv, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
    assert mix.stdout.readline() == "running\n"
    yield
    mix.communicate(timeout=10)


def test_scan_of_child(lab, background):
    """The root alarms, and names host, counters and flows."""
    root, child, stranger = lab.hosts
    python, shell = examples = [
        root.start([ROOT / "examples/msnm.py", root.ip4, "--window", "1",
                    "--rows", str(ROWS), "--flows", "5"],
                   start_new_session=True),
        root.start([ROOT / "examples/msnm.sh", root.ip4, "1", str(ROWS)],
                   start_new_session=True)]

    def wait_for(text, seconds):
        def there():
            assert all(e.alive() for e in examples), shell.log() + python.log()
            return all(text in e.log() for e in examples)
        wait_until(there, seconds, repr(text))

    def named():
        """What is said below an alarm that names the child and the scan."""
        for alarm in python.log().split(" alarm: ")[1:]:
            path, *lines = alarm.splitlines()
            if path == f"{root.ip4} > {child.ip4}" and (
                    "tcpflags_RST" in alarm or "h_syn_in_refused" in alarm):
                return lines

    def named_by_shell():
        """Its first whole diagnosis that ends at the child."""
        lines = shell.log().splitlines(keepends=True)
        for line in lines[lines.index(f"watching {root.ip4}\n"):]:
            if line.startswith("{") and line.endswith("\n"):
                found = json.loads(line)
                if found["path"] == [root.ip4, child.ip4]:
                    return found

    sessions = list(examples)
    try:
        wait_for("collecting: ", 20)
        wait_for("watching " + root.ip4, LEARN_S)
        sessions.append(stranger.start(
            ["sh", "-c", SCAN, "scan", child.ip4, SCAN_GAP_S],
            start_new_session=True))
        found = wait_until(named, ALARM_S, "an alarm for the child")
        again = wait_until(named_by_shell, ALARM_S, "an alarm by the shell")
    finally:
        for process in sessions:
            os.killpg(process.pid, signal.SIGKILL)
        print(python.log(), shell.log())
    flows = [line.split()[0].rstrip(":").split(",") for line in found
             if ",tcp: " in line]
    assert flows and again["host"] == child.ip4 and again["top"]
    for src, dst, sport, dport, _ in flows:
        assert {src, dst} == {child.ip4, stranger.ip4}
        assert 9000 <= int(sport if src == child.ip4 else dport) <= 9099

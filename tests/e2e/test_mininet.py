# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios of mininet/ in one Mininet network.

The network is made by a process of its own, which the fixture runs once with
the scenarios that are selected; each test looks at one result.
"""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "mininet"), str(ROOT / "tests/netns")]

from cluster import overlay_parents  # noqa: E402
from lab import Lab, TimeBound, best_of_3, wait_until  # noqa: E402

NAMES = ["bandwidth", "hitters", "talkers", "pings", "flows", "scan",
         "examples", "failure", "totals"]
LIMIT_S = 300


def play(names):
    """{name: result of the scenario}, and what went wrong under None."""
    argv = [sys.executable, str(ROOT / "mininet" / "scenarios.py"), "--json"]
    if "LINNET_BUILD" in os.environ:
        argv += ["--build", os.environ["LINNET_BUILD"]]
    process = subprocess.Popen(argv + names, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
    found = {r["name"]: r for r in map(json.loads, out.splitlines())}
    return {None: errors, **found}


@pytest.fixture(scope="module")
def results(request):
    return play([item.callspec.params["name"] for item in request.session.items
                 if getattr(item, "function", None) is test_scenario])


@pytest.mark.parametrize("name", NAMES)
def test_scenario(results, name):
    assert name in results, results[None]
    result = results[name]
    assert result["error"] is None
    assert result["wrong"] == [], result["notes"]
    assert result["ok"]


@best_of_3
def test_overlay():
    """The same, but for bounds on time, which may be tried again."""
    results = play(["overlay"])
    assert "overlay" in results, results[None]
    result = results["overlay"]
    assert result["error"] is None
    late = [row for row in result["wrong"] if row[3] != "-"]
    assert result["wrong"] == late
    if late:
        raise TimeBound(f"not in time: {late}")
    assert result["ok"]


def test_cluster_needs_a_build(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "mininet" / "mt.py"),
         "--build", str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 1
    assert "build first" in run.stderr


def test_sandbox_leaves_nothing():
    """SIGKILL of the process outside."""
    code = ("import sandbox, time; print(sandbox.enter(), flush=True); "
            "time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "mininet")})
    tmp = pathlib.Path(process.stdout.readline().strip())
    inside = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = inside.read_text().split()
    assert tmp.is_dir() and pids
    process.kill()
    process.communicate()
    wait_until(lambda: not tmp.exists() and not any(
        pathlib.Path("/proc", pid).exists() for pid in pids), 5, "all gone")


def test_demo_configures_an_old_build_again(tmp_path):
    """With stand-ins for all that it runs."""
    def script(path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    for name in "tests/setup", "mininet/scenarios.py":
        script(tmp_path / name, "")
    for tool in "meson", "ninja":
        script(tmp_path / "bin" / tool, f'echo {tool} "$@" >>{tmp_path}/log')
    demo = tmp_path / "mininet/demo"
    demo.write_text((ROOT / "mininet/demo").read_text())
    (tmp_path / "build").mkdir()
    for setup in "meson setup build", "meson setup build --reconfigure":
        (tmp_path / "log").write_text("")
        subprocess.run(["sh", demo], check=True, capture_output=True,
                       env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
        assert (tmp_path / "log").read_text().splitlines()[0] == setup
        (tmp_path / "build/build.ninja").write_text("")


@pytest.mark.parametrize("hosts, fanout, children", [
    (9, 3, {2: [3, 4, 7], 4: [5, 6], 7: [8, 9]}),
    (8, 2, {2: [3, 5], 3: [4], 5: [6, 7], 7: [8]}),
    (4, 4, {2: [3, 4]}),
    (2, 2, {}),
])
def test_overlay_follows_switches(hosts, fanout, children):
    found = {}
    for k, parent in overlay_parents(hosts, fanout).items():
        found.setdefault(parent, []).append(k)
    assert found.pop(None) == [2]
    assert found == children


def snmp(host, protocol, name):
    """A counter of the kernel in a host's network."""
    lines = [line.split() for line in
             host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()]
    names, values = [line for line in lines if line[0] == protocol + ":"]
    return int(values[names.index(name)])


def test_background_traffic():
    """Each kind of it flows, at a bounded rate, and ends with its owner."""
    with Lab(3) as lab:
        begin = time.monotonic()
        mix = subprocess.Popen(
            [sys.executable, str(ROOT / "mininet" / "mix.py"),
             *(f"{host.ip4}={host.path}" for host in lab.hosts)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert select.select([mix.stdout], [], [], 10)[0]
            assert mix.stdout.readline() == "running\n"
            a, b, c = lab.hosts
            wait_until(lambda: snmp(a, "Udp", "InDatagrams") > 8 and
                       snmp(a, "Icmp", "InEchos") > 4 and
                       all(snmp(h, "Tcp", "PassiveOpens") > 4
                           for h in (a, b, c)), 20, "traffic of each kind")
            out, _ = mix.communicate(timeout=5)
        finally:
            mix.kill()
            mix.wait()
        seconds = time.monotonic() - begin
    done = json.loads(out)
    assert set(done) <= {"web", "dns", "ping", "bulk"}, "none failed"
    assert mix.returncode == 0
    # Each gap is at least half of the mean gap.
    for kind, hosts, gap_s in ("web", 3, 0.6), ("dns", 2, 0.5), ("ping", 2, 1):
        assert 4 < done[kind] <= hosts * (seconds / (gap_s / 2) + 1)

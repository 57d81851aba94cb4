# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: what it claims to see it must be able to see."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctl import STRUCTS, READIMAGE
from lab import (BUILD, Flow, FlowRun, Lab, TimeBound, best_of_3, is_zombie,
                 pids_inside, wait_until, within)


def test_ctl_layout():
    """ctl.py mirrors the structs of common/ctl.h."""
    text = subprocess.run([READIMAGE, "layout"], capture_output=True,
                          text=True, check=True).stdout
    for line in text.splitlines():
        name, offset, size = line.split()
        struct, _, member = name.partition(".")
        mirror = STRUCTS[struct]
        if member:
            field = getattr(mirror, member)
            assert (field.offset, field.size) == (int(offset), int(size)), name
        else:
            assert int(size) == len(bytes(mirror())), name


def test_hosts_reach_each_other():
    with Lab(4) as lab:
        first, *_, last = lab.hosts
        assert first.ping(last.ip4) == 5
        assert first.ping(last.ip6) == 5


def test_flow_without_loss(lab):
    a, b = lab.hosts
    for address in (b.ip4, b.ip6):
        flow = FlowRun(a, b, 4000, 1, address=address).finish()
        assert (flow.sent, flow.lost, flow.late, flow.duplicates) == (
            4000, 0, 0, 0)


def test_flow_sees_loss(lab):
    a, b = lab.hosts
    b.iptables("-A", "INPUT", "-p", "udp", "-m", "statistic", "--mode", "nth",
               "--every", "10", "--packet", "0", "-j", "DROP")
    b.foreign_keep()
    flow = FlowRun(a, b, 4000, count=2000).finish(settle=0.2)
    assert flow.lost == 200


def test_flow_figures():
    """Loss, order, gap and zero intervals of a made-up record."""
    began = 1000.0
    records = [(n, began + n / 100, began + n / 100 + 0.001)
               for n in range(100) if not 30 <= n < 60]
    records[5], records[6] = records[6], records[5]
    records.append((3, began + 0.03, began + 0.9915))
    flow = Flow(100, records, began, began + 1.0)
    assert (flow.lost, flow.late, flow.duplicates) == (30, 2, 1)
    assert 0.30 < flow.gap() < 0.32
    assert flow.zero_intervals() == 3
    assert flow.lost_between(began + 0.2, began + 0.4) == 10


def test_leftovers_are_found():
    """A rule, an object, a changed foreign rule, a process."""
    network = Lab(2)
    try:
        b = network.hosts[1]
        b.iptables("-A", "INPUT", "-p", "icmp", "-j", "DROP")
        b.foreign_keep()
        network.check()
        b.run(["nfacct", "add", "linnet-lab-in"])
        b.iptables("-t", "mangle", "-N", "linnet-lab-in", family=6)
        b.iptables("-D", "INPUT", "-p", "icmp", "-j", "DROP")
        with b.inside():
            stray = subprocess.Popen(["sleep", "60"])
        with pytest.raises(AssertionError) as e:
            network.check()
        for what in ("objects left: ['linnet-lab-in']",
                     "rules left behind", "foreign rules changed", f"process {stray.pid} is left"):
            assert what in str(e.value), what
    finally:
        network.close()
    assert stray.wait(5) == -signal.SIGKILL


def test_bad_ends_are_found():
    """A crash at any time; of our programs each end on request but 0."""
    network = Lab(2)
    try:
        host = network.hosts[0]
        crashed = host.start(["sh", "-c", "kill -SEGV $$"])
        crashed.wait()
        with pytest.raises(AssertionError, match="ended with status -11"):
            network.check()
        host.processes.clear()
        path = network.dir / "agent" / "linnet-agent"
        path.parent.mkdir()
        path.write_text("#!/usr/bin/python3\nimport signal, sys\n"
                        "signal.signal(15, lambda *_: sys.exit(23))\n"
                        "print('ready', flush=True)\nsignal.pause()\n")
        path.chmod(0o755)
        leaky = host.start([path])
        wait_until(lambda: leaky.log(), 5, "it runs")
        with pytest.raises(AssertionError, match="ended with status 23"):
            leaky.stop()
        # what a test ended itself, or saw end, is its own affair
        network.check()
        killed = host.start(["sleep", "60"])
        killed.kill()
        host.start(["sleep", "60"])
        network.check()
    finally:
        network.close()


def test_nothing_survives_the_test_process():
    """SIGKILL of the process that made the lab."""
    code = ("import lab, time; l = lab.Lab(2); "
            "p = l.hosts[0].start(['sleep', '60'], start_new_session=True); "
            "print(p.pid, l.hosts[0].inode, l.dir, flush=True); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", code], text=True,
                             cwd=Path(__file__).parent, stdout=subprocess.PIPE)
    pid, inode, directory = child.stdout.readline().split()
    assert pids_inside({int(inode)}) == [int(pid)]
    child.kill()
    child.wait()
    wait_until(lambda: is_zombie(int(pid)), 5, "the process inside ended")
    wait_until(lambda: not os.path.exists(directory), 5, "files removed")


def test_time_bounds_are_tried_three_times():
    attempts = []

    @best_of_3
    def slow(until):
        attempts.append(time.monotonic())
        within(0 if len(attempts) == until else 2, 1, "outage")

    slow(3)
    assert len(attempts) == 3
    attempts.clear()
    with pytest.raises(TimeBound):
        slow(4)


def test_build_is_there():
    assert (BUILD / "monitor/linnet-monitor").exists()

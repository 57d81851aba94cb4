#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What an idle host pays: memory, processor time and wake-ups.

One host in a namespace without traffic; its monitor (supervisor and reader)
and its agent, measured together, without a task and with four tasks of all
default sketches.  A wake-up is a voluntary context switch.  Needs root.

  footprint.py [--seconds 30] [--json F]
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns"))

from lab import Lab, children_of, status_of, wait_until  # noqa: E402
from tree import Node  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
GOALS = {"rss_mib": 24, "cpu_percent": 0.5}
KEYS = ("src", "dst", "src_dst", "5-tuple")


def kib(pid, name):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines()
                    if line.startswith(name + ":")).split()[1])


def cpu_seconds(pid):
    """Run time in ns where the kernel has it, else in ticks."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS


def sample(pids):
    return {
        "cpu": {p: cpu_seconds(p) for p in pids},
        "wakes": {p: int(status_of(p)["voluntary_ctxt_switches"])
                  for p in pids},
    }


def measure(programs, tasks, seconds):
    """One row for each program, and their sum."""
    before, began = sample(programs), time.monotonic()
    time.sleep(seconds)  # what is measured is this time of nothing
    after, span = sample(programs), time.monotonic() - began
    rows = [{
        "tasks": tasks, "program": name,
        "rss_mib": kib(pid, "Rss") / 1024, "pss_mib": kib(pid, "Pss") / 1024,
        "cpu_percent": 100 * (after["cpu"][pid] - before["cpu"][pid]) / span,
        "wakes": (after["wakes"][pid] - before["wakes"][pid]) / span,
    } for pid, name in programs.items()]
    both = {"tasks": tasks, "program": "together"}
    for name in ("rss_mib", "pss_mib", "cpu_percent", "wakes"):
        both[name] = sum(r[name] for r in rows)
    return [*rows, both]


def attached(node):
    status = node.get("/api/v1/status").json()["data"]
    return status["monitor"]["state"] == "attached"


def configure(node, n):
    for key in KEYS[:n]:
        r = node.post("/api/v1/tasks", {"filter": {"direction": "in"},
                                         "key": key})
        assert r.status in (200, 201), r.text


def report(rows):
    print(f"{'tasks':5} {'program':10} {'RSS MiB':>8} {'PSS MiB':>8} "
          f"{'CPU %':>7} {'wakes/s':>8}  goal")
    for r in rows:
        verdict = ""
        if r["program"] == "together":
            verdict = ", ".join(
                f"{name.split('_')[0].upper()} <= {limit} "
                f"{'pass' if r[name] <= limit else 'MISS'}"
                for name, limit in GOALS.items())
        print(f"{r['tasks']:5} {r['program']:10} {r['rss_mib']:8.1f} "
              f"{r['pss_mib']:8.1f} {r['cpu_percent']:7.3f} "
              f"{r['wakes']:8.1f}  {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with Lab(1) as lab:
        lab.dir.chmod(0o711)  # the agent is not root
        node = Node(lab.hosts[0], [])
        node.address = "127.0.0.1"
        node.start()
        wait_until(lambda: attached(node), 5, "the agent has its monitor")
        supervisor = node.monitor.leader()
        reader, = wait_until(lambda: children_of(supervisor), 5, "a reader")
        programs = {supervisor: "supervisor", reader: "reader",
                    node.agent.leader(): "agent"}
        for n in (0, len(KEYS)):
            configure(node, n)
            rows += measure(programs, n, args.seconds)
    report(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the root of a tree of eight hosts takes to answer.

Real monitors and agents, a namespace each: a root with three children, two of
which have two of their own.  One task with all default sketches, filled with
traffic of its own first.  A query is one connection, one request, one answer
that must be complete; the time is the client's.  CPU is that of all processes
of the tree.  Queries come 20 a second: an agent reads its monitor 83 times a
second at most, and waiting for that is not what is measured.  Needs root.

  latency.py [--queries 200] [--json F]
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns"))

from lab import children_of, wait_until  # noqa: E402
from footprint import cpu_seconds  # noqa: E402
from tree import EIGHT, Tree  # noqa: E402

GOAL_MS = 30
PERIOD = 0.05
SPEC = {"filter": {"direction": "in"}, "key": "src_dst", "increment": "byte"}


def processes(tree):
    """Every process that answers."""
    found = []
    for node in tree.nodes:
        supervisor = node.monitor.leader()
        found += [supervisor, *children_of(supervisor), node.agent.leader()]
    return found


def fill(tree):
    for node in tree.nodes:
        for other in tree.nodes:
            if other is not node:
                node.host.ping(other.address, 20, 0.002)


def paths(tree, task):
    a, b = tree.nodes[1].address, tree.nodes[7].address
    base = f"/api/v1/tasks/{task}"
    return {"totals": f"{base}/totals",
            "one key": f"{base}/estimate?key={a},{b}",
            "heavy hitters": f"{base}/top?n=10",
            "distinct": f"{base}/distinct",
            "real time": f"{base}/realtime"}


def measure(tree, name, path, queries):
    pids = processes(tree)
    before = sum(map(cpu_seconds, pids))
    taken = []
    due = time.monotonic()
    for _ in range(queries):
        time.sleep(max(0, due - time.monotonic()))
        due += PERIOD
        reply = tree.root.get(path)
        assert reply.status == 200, reply.text
        coverage = reply.json()["meta"]["coverage"]
        assert coverage["complete"], coverage
        taken.append(reply.seconds * 1000)
    cpu = sum(map(cpu_seconds, pids)) - before
    taken.sort()
    return {"query": name, "p50_ms": statistics.median(taken),
            "p99_ms": taken[len(taken) * 99 // 100], "max_ms": taken[-1],
            "cpu_ms": 1000 * cpu / queries}


def report(rows):
    print(f"{'query':14} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} "
          f"{'CPU ms':>7}  goal")
    for r in rows:
        verdict = "pass" if r["p50_ms"] <= GOAL_MS else "MISS"
        print(f"{r['query']:14} {r['p50_ms']:7.1f} {r['p99_ms']:7.1f} "
              f"{r['max_ms']:7.1f} {r['cpu_ms']:7.1f}  "
              f"p50 <= {GOAL_MS} {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with Tree(EIGHT) as tree:
        r = tree.root.post("/api/v1/tasks", SPEC)
        assert r.status == 201, r.text
        task = r.json()["data"]["id"]
        fill(tree)
        totals = f"/api/v1/tasks/{task}/totals"
        wait_until(lambda: (r := tree.root.get(totals)).status == 200 and
                   r.json()["meta"]["coverage"]["complete"], 10, "all answer")
        rows = [measure(tree, name, path, args.queries)
                for name, path in paths(tree, task).items()]
    report(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

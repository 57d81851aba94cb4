#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Alarms while hosts fail: none is missed unless the agent says so.

Run as a program, or with LINNET_TEST_FULL=1: seven faults, three times,
while there is an alarm and while there is none; 10 minutes.  Otherwise one.
"""
import os
import signal
import threading
import time

import pytest

from lab import wait_until
from test_tree_windows import asked, begin, create, moment, now, states
from traffic import reproducible, spray, udp_packet
from tree import Tree

FULL = os.environ.get("LINNET_TEST_FULL") == "1"
SHAPE = {0: [1, 2], 2: [3]}
LIMIT, SIZE = 4000, 100
# datagrams to each host: one has more than its share, all together are over
LOUD, QUIET = {3: 30, 1: 9, 0: 9}, {3: 5, 1: 5}
LOADS = [(LOUD, "over"), (QUIET, "quiet")]


class Traffic:
    """The same to each host in each window; what was sent in which."""

    def __init__(self, tree, load):
        self.tree, self.load, self.sent = tree, load, {}
        self.changed, self.stopping = now(), False
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        nodes = self.tree.nodes
        while not self.stopping:
            k, load = now() + 1, self.load
            begin(k)
            for to, n in load.items():
                src, dst = nodes[to - 1], nodes[to]
                spray(src.host, [udp_packet(src.address, dst.address, 1111, 53,
                                            bytes(SIZE - 28))] * n, 5000)
            # what came late may have been counted in the next one
            if time.time() < k + 0.9:
                self.sent[k] = SIZE * sum(load.values())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()


class Watch:
    """All that the root ever says of each window."""

    def __init__(self, tree, traffic, path):
        self.tree, self.traffic, self.path = tree, traffic, path
        self.said = {}

    def look(self):
        for start, w in states(self.tree.root, self.path).items():
            self.said.setdefault(start, [])
            if w["state"] not in self.said[start]:
                self.said[start].append(w["state"])

    def last(self, k):
        return self.said.get(moment(k)[:-1] + ".000Z", ["pending"])[-1]

    def until(self, k, *wanted, seconds=60):
        """Until a window from k on is one of these; which."""
        def there():
            self.look()
            return next((i for i in range(k, now()) if self.last(i) in wanted),
                        None)
        return wait_until(there, seconds, f"{wanted} from window {k} on")

    def check(self, first):
        """Nothing that was over is quiet, nothing else is over."""
        count = {"over": 0, "quiet": 0, "blind": 0}
        last = max(self.traffic.sent)
        wait_until(lambda: self.look() or self.last(last) != "pending", 15,
                   "the last window to be judged")
        for k, size in sorted(self.traffic.sent.items()):
            said = self.said.get(moment(k)[:-1] + ".000Z")
            if not first <= k <= last or not said:
                continue
            assert said[-1] != "pending", (k, said)
            assert ("quiet" if size > LIMIT else "over") not in said, (
                k, size, said, self.said)
            count[said[-1]] += 1
        return count


def restart(node):
    node.agent.kill()
    node.start()


def pause(node, seconds):
    node.agent.signal(signal.SIGSTOP)
    try:
        end = time.time() + seconds
        wait_until(lambda: time.time() >= end, seconds + 1, "a pause")
    finally:
        node.agent.signal(signal.SIGCONT)


def moment_of_silence(tree):
    """Stopped while it must speak of a window, back before it is missed."""
    k = now() + 1
    wait_until(lambda: time.time() >= k + 0.05, 2, "the end of a window")
    pause(tree.nodes[3], 1.3)


FAULTS = {
    "a leaf sleeps through its word": moment_of_silence,
    "a leaf is restarted": lambda t: restart(t.nodes[3]),
    "a parent is restarted": lambda t: restart(t.nodes[2]),
    "a parent is stopped for a moment": lambda t: pause(t.nodes[2], 1.6),
    "a leaf is stopped": lambda t: pause(t.nodes[3], 5),
    "a parent is stopped": lambda t: pause(t.nodes[2], 5),
    "another one is restarted": lambda t: restart(t.nodes[1]),
}


def heard(node):
    return node.get("/api/v1/status").json()["data"]["overlay"]["alarms"]


def quiet_costs_nothing(tree, watch, windows):
    """Of the messages that asking each host in each window took, a tenth."""
    k = watch.until(now(), "quiet")
    before, said = sum(asked(tree)), sum(map(heard, tree.nodes))
    watch.until(k + windows, "quiet")
    messages = (sum(asked(tree)) - before + sum(map(heard, tree.nodes)) - said)
    assert messages <= windows * (len(tree.nodes) - 1) / 10, messages


def told_once(tree, watch, windows):
    """The leaf has more than its share in each window, and says so once."""
    k = watch.until(now(), "over")
    before, first = [heard(n) for n in tree.nodes], now()
    watch.until(k + windows, "over")
    told = [heard(n) - b for n, b in zip(tree.nodes, before)]
    ended = now() - first + 1
    assert told[1] == told[3] == 0, told
    assert max(told) <= ended and min(told[0], told[2]) >= windows - 2, (
        told, ended)


def faults(tree, watch, rng, first):
    for i in range(3 if FULL else 1):
        for what, fault in list(FAULTS.items())[:None if FULL else 1]:
            for load, good in LOADS[:None if FULL else 1]:
                watch.traffic.load = load
                watch.until(now() + 1, good)
                # at any moment of a window
                at = time.time() + rng.random()
                wait_until(lambda at=at: time.time() >= at, 2, "a moment")
                fault(tree)
                watch.until(now() + 1, good)
            print(f"{i}: {what}: {watch.check(first)}", flush=True)


def dead_is_not_quiet(tree, watch, path):
    k, leaf = now() + 1, tree.nodes[3]
    leaf.agent.kill()
    start = moment(watch.until(k, "blind"))[:-1] + ".000Z"
    w = states(tree.root, path)[start]
    assert w["upper"] is None and leaf.address in {
        m["host"] for m in w["missing"]}, w


def test_t66b_alarm_over_faults():
    rng = reproducible(os.environ.get("LINNET_TEST_SEED") or
                       time.time_ns() % 2**32)
    with Tree(SHAPE) as tree:
        r = create(tree.root, sketches=["hll"],
                   standing=[f"alarm?over={LIMIT}"])
        assert r.status == 201, r.text
        path = "/api/v1/tasks/" + r.json()["data"]["id"]
        first = now() + 1
        with Traffic(tree, LOUD) as traffic:
            watch = Watch(tree, traffic, path)
            faults(tree, watch, rng, first)
            if FULL:
                quiet_costs_nothing(tree, watch, 10)
                traffic.load = LOUD
                told_once(tree, watch, 10)
                dead_is_not_quiet(tree, watch, path)
        # it was raised and, in the long form, cleared and known to be unknown
        count = watch.check(first)
        assert count["over"] > 0 and (not FULL or min(count.values()) > 0)
        over = sum("over" in said for said in watch.said.values())
        assert tree.lab.logs().count("or more in a window") >= over


if __name__ == "__main__":
    os.environ["LINNET_TEST_FULL"] = "1"
    raise SystemExit(pytest.main([__file__, "-x", "-s", "-q"]))

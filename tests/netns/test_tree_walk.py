# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions down a tree of real agents: time, lies, a flood of clients.

LINNET_TEST_FULL=1 tries each case; without it a few stand for all.
"""
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lab import best_of_3, wait_until, within
from test_tree import (COUNTER, Middle, configure, configure_hitters,
                       ledger_of, middle, ping_all)
from tree import Tree

FULL = os.environ.get("LINNET_TEST_FULL") == "1"


# ---- T52b: a dead or silent agent at each level of a deep tree ----

DEPTH = 8
# 0 - 1 - … - 8, and two leaves at each level but the last
SPINE = {i: [i + 1, DEPTH + 1 + 2 * i, DEPTH + 2 + 2 * i]
         for i in range(DEPTH)}


class Question:
    """What the root says of one task in so many milliseconds."""

    def __init__(self, tree):
        tree.root.monitor = tree.root.host.monitor(instance="lab")
        wait_until(lambda: tree.root.get("/api/v1/status").json()["data"]
                   ["monitor"]["state"] == "attached", 5, "a monitor")
        configure(tree)
        task = tree.root.get("/api/v1/tasks").json()["data"][0]["id"]
        self.tree, self.path = tree, f"/api/v1/tasks/{task}/totals"

    def ask(self, budget_ms):
        """(seconds, address -> why it is missing)"""
        r = self.tree.root.get(f"{self.path}?timeout={budget_ms}ms")
        assert r.status == 200, r.text
        doc = r.json()["meta"]["coverage"]
        assert doc["missing_more"] == 0
        return r.seconds, {m["host"]: m["reason"] for m in doc["missing"]}


def reached(missing):
    """Only the root has a monitor: who was reached says that it has none."""
    return {a for a, why in missing.items() if why == "monitor_down"}


def spine_case(tree, question, level, dead, budget_ms):
    node = tree.nodes[level]
    behind = {tree.nodes[i].address for i in tree.below(level)}
    others = {n.address for n in tree.nodes[1:]} - behind
    wait_until(lambda: reached(question.ask(2000)[1]) == others | behind, 20,
               "the tree is whole")
    if dead:
        node.agent.kill()
    else:
        node.agent.signal(signal.SIGSTOP)
    try:
        seconds, missing = question.ask(budget_ms)
    finally:
        if dead:
            node.start(wait=False)
        else:
            node.agent.signal(signal.SIGCONT)
    case = f"level {level}, {'dead' if dead else 'silent'}, {budget_ms} ms"
    # each by its name, whatever it costs those that are behind it
    assert reached(missing) == others, (case, others - reached(missing))
    assert set(missing) == others | behind, case
    within(seconds, (budget_ms + 100) / 1000, case)


@best_of_3
def test_t52b_spine():
    budgets = (250, 500, 1000, 2000) if FULL else (250, 1000)
    levels = range(1, DEPTH + 1) if FULL else (8, 4, 1)
    with Tree(SPINE, monitor=False) as tree:
        question = Question(tree)
        for level in levels:
            for budget_ms in budgets:
                for dead in (False, True):
                    spine_case(tree, question, level, dead, budget_ms)


# ---- T56: a child that moved between two rounds ----

def moved_then(handler, reply):
    if handler.server.last[1]["round"] == 1:
        handler.reply(reply.status, reply.text.encode())
    else:
        handler.reply(409, b'{"type": "/problems/moved", "status": 409}')


def test_moved_between_two_rounds():
    """What it gave first is not in: its new parent may count it."""
    with Tree({0: [1]}) as tree:
        query, _, whole = configure_hitters(tree)
        root, child = tree.nodes
        with middle(child) as server:
            tree.wait_complete(**query)
            server.play = moved_then
            reply = root.ask(**query)
            assert reply.missing == {child.address: "moved"}
            own = root.ask(**query, scope="host").json()
            assert reply.json() == own and own != whole
            server.play = None


# ---- T58b: clients that ask as fast as they can ----

class Beats(Middle):
    """Notes when beats come."""
    at = []

    def do_POST(self):
        if self.path.endswith("/beat"):
            self.at.append(time.monotonic())
        self._pass()


def memory_kib(process, field):
    for line in Path(f"/proc/{process.leader()}/status").read_text().split("\n"):
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(field)


def flood(tree, seconds):
    """Two hundred clients from ten addresses of the last host on agent 1;
    what they got."""
    host, target = tree.nodes[3].host, tree.nodes[1]
    task = target.get("/api/v1/tasks").json()["data"][0]["id"]
    sources = [f"10.77.9.{i}" for i in range(1, 11)]
    host.run(["ip", "-batch", "-"], input="".join(
        f"addr add {s}/16 dev {host.dev}\n" for s in sources))
    process = host.start(["/usr/bin/python3",
                          Path(__file__).with_name("flood.py"),
                          target.address, "8000",
                          f"/api/v1/tasks/{task}/totals", str(seconds), "200",
                          *sources])
    process.wait(seconds + 10)
    return json.loads(process.log().splitlines()[-1])


def ask_all_the_time(tree, stop, replies):
    while not stop.is_set():
        replies.append(tree.root.ask(**COUNTER))
        stop.wait(0.1)


@best_of_3
def test_t58b_flood():
    seconds = 60 if FULL else 5
    with Tree({0: [1], 1: [2, 3]}) as tree:
        configure(tree)
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        with middle(tree.nodes[2]) as server:
            server.RequestHandlerClass = Beats
            tree.wait_complete(**COUNTER)
            agent = tree.nodes[1].agent
            before = memory_kib(agent, "VmRSS")
            replies, stop = [], threading.Event()
            parent = threading.Thread(target=ask_all_the_time,
                                      args=(tree, stop, replies))
            parent.start()
            Beats.at.clear()
            try:
                got = flood(tree, seconds)
            finally:
                stop.set()
                parent.join()
            beats = list(Beats.at)
            assert got.get("429", 0) + got.get("503", 0) > 0, got
            assert got["retry"] == got.get("429", 0) + got.get("503", 0), got
            assert got.get("200", 0) > 0, got
            assert set(got) <= {"200", "429", "503", "retry", "closed"}, got
            more = memory_kib(agent, "VmHWM") - before
            assert more <= 16 * 1024, f"{more} KiB more"
            # the parent is served all the time
            assert len(replies) > seconds * 2
            for reply in replies:
                assert reply.complete, reply.headers
                assert reply.json()[0] == sum(ledger.values())
            within(max(r.seconds for r in replies), 2.1, "the parent's query")
            gaps = [b - a for a, b in zip(beats, beats[1:])]
            print(got, f"{more} KiB more, {len(replies)} answers to the parent,"
                  f" beats {max(gaps):.2f} s apart")
            assert len(beats) >= seconds - 1
            within(max(gaps), 1.05 + 0.5, "a beat to a child")
            tree.wait_complete(**COUNTER)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

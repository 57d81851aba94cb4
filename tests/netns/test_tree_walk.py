# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions down a tree of real agents: time, lies, a flood of clients.

LINNET_TEST_FULL=1 tries each case; without it a few stand for all.
"""
import os
import signal
import time

import pytest

from lab import best_of_3, wait_until, within
from test_tree import configure
from tree import Tree, request

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


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""T56b: answers while agents move, restart and are lost, judged afterwards.

LINNET_TEST_FULL=1: 10,000 questions and 200 moves; without it a few hundred.  The history
stays in LINNET_TEST_HISTORY, a file, for tests/model/check_history.py.
"""
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from lab import wait_until
from tree import (COUNTER, Load, Tree, configure, ledger_of, ping_all,
                  request)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from check_history import check  # noqa: E402

FULL = os.environ.get("LINNET_TEST_FULL") == "1"
RATE = 40
BUDGET = 2
# 0 - 1 - 3, 4 and 0 - 2 - 5, 6, 7: leaves go from one to the other
SHAPE = {0: [1, 2], 1: [3, 4], 2: [5, 6, 7]}


def answer_row(began, reply):
    answered, expected = reply.answered
    missing = reply.missing
    return {"answer": "", "began": began, "ended": began + reply.seconds,
            "budget": BUDGET, "value": reply.json()[0],
            "missed": int(reply.headers["X-Linnet-Missed-Packets"]),
            "expected": expected,
            "answered": answered, "complete": reply.complete,
            "missing": missing,
            "missing_more": expected - answered - len(missing)}


class Trouble:
    """One thing after the other happens to the tree."""

    def __init__(self, tree, rng):
        self.tree, self.rng = tree, rng
        self.rows, self.moves = [], 0

    def member(self, node, joined):
        self.rows.append({"member": node.address, "at": time.monotonic(),
                          "in": joined})

    def restart(self):
        node = self.tree.nodes[self.rng.randrange(1, len(self.tree.nodes))]
        node.agent.kill()
        node.start()

    def stop(self):
        node = self.tree.nodes[self.rng.randrange(1, len(self.tree.nodes))]
        node.agent.signal(signal.SIGSTOP)
        time.sleep(self.rng.random() * 0.5)  # how long it is silent
        node.agent.signal(signal.SIGCONT)

    @staticmethod
    def children(node):
        """Those that joined, which an added one need not have done yet."""
        r = request(node.host, node.address, "GET", "/api/v1/overlay")
        return [c["host"] for c in r.json()["data"]["children"]
                if c["state"] != "expected"]

    def move(self):
        """A leaf is taken from one inner agent and given to the other."""
        one, two = self.tree.nodes[1], self.tree.nodes[2]
        a, b = (one, two) if len(self.children(one)) > 1 else (two, one)
        host = self.rng.choice(self.children(a))
        node = next(n for n in self.tree.nodes if n.address == host)
        self.member(node, False)
        r = request(a.host, a.address, "DELETE",
                    f"/api/v1/overlay/children/{host}")
        assert r.status == 204, r.text
        wait_until(lambda: b.ask(type="add leaf agent", agent_addr=host).status
                   == 200 and host in self.children(b), 15,
                   "it has another parent")
        self.member(node, True)
        self.moves += 1

    def run(self, seconds, moves):
        """So long at least, and until there were so many moves."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.moves < moves:
            self.rng.choice((self.restart, self.stop, self.move))()
            time.sleep(self.rng.random() * 0.2)  # a moment of peace


def test_t56b_history():
    seed = int(os.environ.get("LINNET_TEST_SEED", time.time_ns() % 10**6))
    print(f"LINNET_TEST_SEED={seed}")
    with Tree(SHAPE) as tree:
        configure(tree)
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        # who is twice in a sum is not to be taken for another
        assert len(set(ledger.values())) == len(ledger)
        tree.wait_complete(**COUNTER)
        trouble = Trouble(tree, random.Random(seed))
        with Load(tree.root, RATE, **COUNTER) as load:
            trouble.run(10000 / RATE if FULL else 6, 200 if FULL else 3)
            wait_until(lambda: load.replies[-1][1].complete, 20, "all back")
        assert not load.errors, load.errors
        rows = [{"host": h, "value": v} for h, v in ledger.items()]
        rows += trouble.rows
        rows += [answer_row(began, r) for began, r in load.replies]
        lines = [json.dumps(r) for r in rows]
        file = os.environ.get("LINNET_TEST_HISTORY")
        if file:
            Path(file).write_text("\n".join(lines) + "\n")
        wrong, text = check(lines, teeth=True)
        print(text, f"({trouble.moves} moves)")
        assert not wrong, text


GOOD = {"answer": "", "began": 5, "ended": 5.2, "budget": 1, "value": 30,
        "missed": 0, "expected": 3, "answered": 2, "complete": False,
        "missing": {"c": "timeout"}, "missing_more": 0}
WHOLE = {**GOOD, "value": 37, "answered": 3, "complete": True, "missing": {}}


@pytest.mark.parametrize("change, what", [
    ({}, None),
    ({"value": 40}, "double"),
    ({"answered": 3, "expected": 4}, "double"),
    ({"value": 20}, "value"),
    ({"value": 20, "missed": 10}, None),
    ({"value": 30, "missed": 10}, "value"),
    ({"answered": 3}, "numbers"),
    ({"ended": 6.2}, "late"),
    ({"missing": {}, "missing_more": 1}, None),
    ({"missing": {}, "missing_more": 1, "value": 31}, "double"),
    ({"missing": {}, "missing_more": 1, "value": 16}, "value"),
    ({"missing": {}, "missing_more": 1, "value": 16, "missed": 1}, None),
    ({"complete": True}, "complete without the missing"),
    (WHOLE, None),
    ({**WHOLE, "value": 47}, "double"),
    ({**WHOLE, "answered": 2, "expected": 2, "value": 30},
     "complete without a member"),
])
def test_what_the_judge_sees(change, what):
    rows = [{"host": "a", "value": 10}, {"host": "b", "value": 20},
            {"host": "c", "value": 7}, {**GOOD, **change}]
    wrong, _ = check([json.dumps(r) for r in rows])
    assert (what in wrong) if what else not wrong, wrong
    # who went meanwhile need not be in it
    rows.insert(0, {"member": "c", "at": 5.1, "in": False})
    wrong, _ = check([json.dumps(r) for r in rows])
    assert "complete without a member" not in wrong
    assert check([json.dumps(rows[-1])] * 10, teeth=True)[0]["no teeth"]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions down a tree of real agents: time, lies, a flood of clients.

LINNET_TEST_FULL=1 tries each case; without it a few stand for all.
"""
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import Lab, best_of_3, wait_until, within
from middle import Middle, late, middle
from test_tree_rounds import configure_hitters
from traffic import spray, udp_packet
from tree import (COUNTER, Node, Tree, configure, ledger_of, memory_kib,
                  ping_all, token_files)

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


def wait_whole(tree, question):
    others = {n.address for n in tree.nodes[1:]}
    wait_until(lambda: reached(question.ask(2000)[1]) == others, 20,
               "the tree is whole")


def spine_case(tree, question, level, dead, budget_ms):
    node = tree.nodes[level]
    behind = {tree.nodes[i].address for i in tree.below(level)}
    others = {n.address for n in tree.nodes[1:]} - behind
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
    wait_whole(tree, question)
    # each by its name, whatever it costs those that are behind it
    assert reached(missing) == others, (case, others - reached(missing))
    assert set(missing) == others | behind, case
    within(seconds, (budget_ms + 100) / 1000, case)


@best_of_3
def test_t52b_spine():
    budgets = (250, 500, 1000, 2000) if FULL else (250, 1000)
    levels = range(1, DEPTH + 1) if FULL else (8, 4)
    with Tree(SPINE, monitor=False) as tree:
        question = Question(tree)
        wait_whole(tree, question)
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


def test_contributors_of_each_question():
    with Tree({0: [1, 4], 1: [2, 3]}) as tree:
        _, top, whole = configure_hitters(tree)
        task = top.split("/")[4]
        keys = "&".join(f"key={k}" for k in whole)
        one = tree.nodes[1].address
        for question in (f"estimate?{keys}", "top?n=5", "distinct",
                         "realtime"):
            path = f"/api/v1/tasks/{task}/{question}"
            path += ("&" if "?" in path else "?") + "contributors=children"
            doc = tree.root.get(path).json()
            rows = {c["host"]: c for c in doc["meta"]["contributors"]}
            assert set(rows) == {tree.nodes[i].address for i in (0, 1, 4)}
            assert rows[one]["hosts_answered"] == 3
            assert all(r["reason"] is None for r in rows.values())
            if "points" not in rows[one]:
                continue
            for item in doc["data"]:
                assert item["estimate"] == sum(
                    p["estimate"] for r in rows.values()
                    for p in r["points"] if p["key"] == item["key"])
        tree.nodes[4].agent.kill()
        doc = tree.root.get(path).json()
        rows = {c["host"]: c for c in doc["meta"]["contributors"]}
        assert rows[tree.nodes[4].address]["reason"] == "unreachable"
        assert "packets" not in rows[tree.nodes[4].address]
        assert "contributors" not in tree.root.get(path.split("?")[0]).json()[
            "meta"]
        assert tree.root.get(path + "x").status == 422


def test_contributors_are_for_admins():
    with Lab(2) as lab:
        lab.dir.chmod(0o711)
        node = Node(lab.hosts[0], [],
                    args=token_files(lab, "reader", "read", "r" * 43))
        node.start()
        boss = {"Authorization": "Bearer boss"}
        wait_until(lambda: node.get("/api/v1/status", headers=boss).json()
                   ["data"]["monitor"]["state"] == "attached", 5, "a monitor")
        r = node.post("/api/v1/tasks", {"key": "none"}, headers=boss)
        assert r.status == 201, r.text
        path = f"/api/v1/tasks/{r.json()['data']['id']}/totals"
        reader = {"Authorization": "Bearer " + "r" * 43}
        assert node.get(path, headers=reader).status == 200
        path += "?contributors=children"
        assert node.get(path, headers=reader).status == 403
        rows = node.get(path, headers=boss).json()["meta"]["contributors"]
        assert [r["host"] for r in rows] == [node.address]


# ---- how sure a bound is ----

def test_confidence_of_bounds():
    """Certain where they come from the table of heavy keys alone."""
    with Tree({0: [1]}) as tree:
        root, child = tree.nodes
        tasks = {}
        for sketches in (["cms", "topk"], ["topk"]):
            r = root.post("/api/v1/tasks", {
                "key": "src", "sketches": sketches,
                "filter": {"direction": "in", "proto": "udp"}})
            assert r.status == 201, r.text
            tasks[len(sketches)] = r.json()["data"]["id"]
        # more keys than the table has room for
        many = [udp_packet(f"10.66.{i // 200}.{i % 200 + 1}", root.address, 9,
                           9) for i in range(9000)]
        heavy = [udp_packet("10.66.99.1", root.address, 9, 9)] * 500
        spray(child.host, many + heavy + many, 20000)

        def error(n, what):
            doc = root.get(f"/api/v1/tasks/{tasks[n]}/{what}").json()
            return doc["meta"]["error"], doc

        def seen():
            doc = error(1, "totals")[1]
            return doc["data"]["packets"] > 15000
        wait_until(seen, 10, "the packets are counted")
        for what in ("top?n=5&threshold=0.00001",
                     "estimate?key=10.66.0.1"):
            said, doc = error(2, what)
            assert said["kind"] == "over" and said["max"] > 0, doc
            assert said["confidence"] == 0.982, doc
            said, doc = error(1, what)
            assert said["kind"] == "over" and said["max"] > 0, doc
            assert said["confidence"] == 1, doc


# ---- equal questions at the same time ----

def test_equal_questions_share_an_answer():
    with Tree({0: [1]}) as tree:
        configure(tree)
        configure(tree, "udp")
        tree.wait_complete(**COUNTER)
        with middle(tree.nodes[1]) as server:
            tree.wait_complete(**COUNTER)
            server.play = late(0.5)

            def together(*queries):
                before = server.asked
                with ThreadPoolExecutor(len(queries)) as pool:
                    replies = list(pool.map(lambda q: tree.root.ask(**q),
                                            queries))
                assert all(r.complete for r in replies)
                return server.asked - before

            assert together(*[COUNTER] * 8) == 1
            assert together(COUNTER, {**COUNTER, "proto": "udp"}) == 2
            # one that comes later sees what was counted meanwhile
            with ThreadPoolExecutor(1) as pool:
                before = server.asked
                first = pool.submit(tree.root.ask, **COUNTER)
                wait_until(lambda: server.asked > before, 5, "it is asked")
                began = time.monotonic()
                wait_until(lambda: time.monotonic() > began + 0.1, 5)
                assert tree.root.ask(**COUNTER).complete
                assert first.result().complete
            assert server.asked == before + 2
            server.play = None


# ---- T58b: clients that ask as fast as they can ----

class Beats(Middle):
    """Notes when beats come."""
    at = []

    def do_POST(self):
        if self.path.endswith("/beat"):
            self.at.append(time.monotonic())
        self._pass()


def flood(tree, seconds):
    """Two hundred clients from eleven addresses of the last host, one of them
    its agent's, on agent 1; what they got."""
    host, target = tree.nodes[3].host, tree.nodes[1]
    task = target.get("/api/v1/tasks").json()["data"][0]["id"]
    sources = [f"10.77.9.{i}" for i in range(1, 11)]
    host.run(["ip", "-batch", "-"], input="".join(
        f"addr add {s}/16 dev {host.dev}\n" for s in sources))
    process = host.start(["/usr/bin/python3",
                          Path(__file__).with_name("flood.py"),
                          target.address, "8000",
                          f"/api/v1/tasks/{task}/totals", str(seconds), "200",
                          host.ip4, *sources])
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

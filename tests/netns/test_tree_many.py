# SPDX-License-Identifier: GPL-2.0-or-later
"""T59: 127 agents in one tree answer whole, right, in time and cheaply."""
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import best_of_3, within
from swarm import Swarm, complete

QUESTIONS = ["totals", "estimate?key=10.0.0.0&key=10.16.126.1&key=10.9.9.9",
             "top?n=10", "top?n=50&threshold=0.01"]


def cpu_seconds(agent):
    text = Path(f"/proc/{agent.pid}/schedstat").read_text()
    return int(text.split()[0]) / 1e9


@best_of_3
def test_t59_many():
    with Swarm(127, 16) as swarm:
        for question in QUESTIONS:
            swarm.warm(question)
            for _ in range(5):
                ask(swarm, question)
        check_subtree(swarm, 1)
        check_root(swarm)
        for i in range(swarm.n):
            allowed = 2 * len(swarm.children(i)) + 32
            assert swarm.descriptors(i) <= allowed, (i, allowed)


def ask(swarm, question):
    reply = swarm.ask(question)
    assert complete(reply), reply.text
    swarm.check(question, reply)
    within(reply.seconds, 1.5, question)


def check_subtree(swarm, i):
    """Any agent answers for itself and what is below it, and no more."""
    reply = swarm.ask("totals", i)
    assert complete(reply), reply.text
    swarm.check("totals", reply, swarm.below(i))
    reply = swarm.ask("totals?scope=host", i)
    swarm.check("totals", reply, [i])


def check_root(swarm):
    """Two queries a second take less than half a core of it."""
    root = swarm.agents[0]
    cpu, began = cpu_seconds(root), time.monotonic()
    for i in range(6):
        time.sleep(max(0, began + i / 2 - time.monotonic()))
        ask(swarm, QUESTIONS[i % len(QUESTIONS)])
    share = (cpu_seconds(root) - cpu) / (time.monotonic() - began)
    within(share, 0.5, "the root's processor time")


def served(agent):
    """Inodes of the connections that others opened."""
    lines = Path(f"/proc/{agent.pid}/net/tcp").read_text().splitlines()[1:]
    words = [line.split() for line in lines]
    return {w[9] for w in words if w[1].endswith(":1F40") and w[3] != "0A"}


def for_tree(agent):
    """Descriptors, but those of the clients' connections."""
    before, names = served(agent), []
    for fd in Path(f"/proc/{agent.pid}/fd").iterdir():
        try:
            names.append(os.readlink(fd))
        except FileNotFoundError:
            pass
    clients = {f"socket:[{i}]" for i in before | served(agent)}
    return sum(name not in clients for name in names)


def places(swarm):
    """What each agent knows of the membership, and its parent."""
    return [(d["epoch_text"], d["parent"]) for d in (
        swarm.data("/api/v1/overlay", i) for i in range(swarm.n))]


def test_t59_at_once():
    """However many questions there are, connections to children are bounded,
    and beats do not wait for one."""
    with Swarm(17, 16, delay=5) as swarm, ThreadPoolExecutor(40) as pool:
        root = swarm.agents[0]
        before = places(swarm)
        asked = [pool.submit(swarm.ask, f"estimate?key=10.0.0.{k}&timeout=20s")
                 for k in range(80)]
        most = 0
        while not all(a.done() for a in asked):
            most = max(most, for_tree(root))
        # of questions, and the two of each child that T59 knows
        assert most <= 8 * 16 + 32 + 2 * 16 + 32
        for a in asked:
            assert complete(a.result()), a.result().text
            swarm.check("estimate", a.result())
        assert places(swarm) == before  # nobody was lost, nor looked elsewhere

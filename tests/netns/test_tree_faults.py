#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents that find their tree themselves, and lose parts of it: how long until
the root says the right thing again, and that it never says a wrong one.

Run as a program, or with LINNET_TEST_FULL=1: 200 faults of inner agents, 20
of the root, four partitions, 550 changes of tasks, 10,000 answers of 127
agents that come and go; 40 minutes.  Otherwise a few of each, within the same
bounds.
"""
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import best_of_3, wait_until, within
from swarm import SPEC, Swarm, address
from tree import Load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from check_history import check  # noqa: E402

FULL = os.environ.get("LINNET_TEST_FULL") == "1"
SEED = int(os.environ.get("LINNET_TEST_SEED", time.time_ns() % 10**6))
BUDGET = 2
LATE = 0.1
CANDIDATES = range(3)
# a silent child is down after 3.1 s, a killed one after 1.4 s
DOWN = {"kill": 1.4, "stop": 3.1, "cut": 3.1}
ANSWERS_DOWN = 10


def many_faults(test):
    """A test of the long run alone: its short form is the last of this file."""
    return test if FULL else None


def say(*what):
    print(*what, flush=True)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def summary(values):
    return (f"p50 {percentile(values, .5):.2f} s, "
            f"p99 {percentile(values, .99):.2f} s, {max(values):.2f} s at "
            f"most ({len(values)})")


# ---- what each says alone, what the root says ----

def ledger_of(swarm):
    """What each agent says when it is asked for itself alone."""
    return {address(i): swarm.ask("totals?scope=host", i).json()["data"]
            ["bytes"] for i in range(swarm.n)}


def row_of(began, reply):
    assert reply.status == 200, reply.text
    r = reply.json()
    c = r["meta"]["coverage"]
    return {"answer": "", "began": began, "ended": began + reply.seconds,
            "budget": BUDGET, "value": r["data"]["bytes"],
            "missed": r["meta"]["loss"]["missed"]["bytes"],
            "expected": c["hosts_expected"], "answered": c["hosts_answered"],
            "complete": c["complete"], "missing_more": c["missing_more"],
            "missing": {m["host"]: m["reason"] for m in c["missing"]}}


class Questions(Load):
    """Twenty a second, whose answers are read as they come."""

    def __init__(self, swarm):
        super().__init__(swarm, 20, question="totals")
        self.rows = []

    def _one(self, began):
        super()._one(began)
        # threads append whole items: nobody else takes this one
        with contextlib.suppress(IndexError):
            self.rows.append(row_of(*self.replies.pop()))


def judge(ledger, rows, teeth=False):
    """Nothing is counted twice, every sum is that of the hosts named; how many
    answers came too late."""
    wrong, text = check(
        [json.dumps({"host": h, "value": v}) for h, v in ledger.items()] +
        [json.dumps(r) for r in rows], teeth)
    say(text.splitlines()[-1])
    late = wrong.pop("late", 0)
    assert not wrong, text
    return late


def parents(swarm, root=0):
    """number of an agent -> that of its parent, as the root has them"""
    number = {address(i): i for i in range(swarm.n)}
    members = swarm.data("/api/v1/overlay/members?limit=1000", root)
    of_id = {m["node_id"]: number[m["host"]] for m in members}
    return {number[m["host"]]: of_id.get(m["parent"]) for m in members}


def levels(swarm, root=0):
    """How deep it is; a cycle has no end."""
    above = parents(swarm, root)

    def level(i):
        return 0 if above[i] is None else 1 + level(above[i])
    return max(map(level, above))


def inner(swarm, root=0):
    return sorted({p for p in parents(swarm, root).values()
                   if p not in (None, root)})


# ---- T50b: inner agents ----

FAULTS = ["kill", "stop", "cut"]


class Fault:
    """Agents are killed, stopped or cut off, and put right again."""

    def __init__(self, swarm, kind_of):
        self.swarm, self.kind_of = swarm, kind_of
        self.hosts = {address(i) for i in kind_of}
        self.began = None

    def _those(self, kind):
        return [i for i, k in self.kind_of.items() if k.startswith(kind)]

    def happen(self):
        self.began = time.monotonic()
        for i in self._those("kill"):
            self.swarm.agents[i].kill()
        for i in self._those("stop"):
            self.swarm.agents[i].signal(signal.SIGSTOP)
        for i in self._those("cut"):
            self.swarm.cut([i], to=self.kind_of[i] != "cut away",
                           away=self.kind_of[i] != "cut to")
            self.began = time.monotonic()

    def end(self):
        for i in self._those("kill"):
            self.swarm.start(i)
        for i in self._those("stop"):
            self.swarm.agents[i].signal(signal.SIGCONT)
        if self._those("cut"):
            self.swarm.heal()

    @property
    def down(self):
        return max(DOWN[k.split()[0]] for k in self.kind_of.values())

    def others_all(self, row):
        return set(row["missing"]) == self.hosts and not row["missing_more"]


class Survival(NamedTuple):
    repaired: float
    whole: float
    waited: float
    late: int

    def __str__(self):
        return (f"repaired after {self.repaired:.2f} s, whole after "
                f"{self.whole:.2f} s, then questions took {self.waited:.2f} s"
                + f", {self.late} LATE" * bool(self.late))


def survive(swarm, ledger, kind_of):
    """What happened, while 20 questions a second were asked: seconds until all
    others were in the answers; from the end of the fault, until all were; the
    longest that a question waited for who is down; answers beyond the budget.
    """
    fault = Fault(swarm, kind_of)
    with Questions(swarm) as load:
        wait_until(lambda: len(load.rows) > 3, 5, "queries run")
        fault.happen()
        wait_until(lambda: len(load.rows) > ANSWERS_DOWN and all(
            r["began"] > fault.began + fault.down and fault.others_all(r)
            for r in load.rows[-ANSWERS_DOWN:]), 20,
            f"only {fault.hosts} are missing")
        healing = time.monotonic()
        fault.end()
        wait_until(lambda: load.rows[-1]["complete"] and
                   load.rows[-1]["began"] > healing, 30, "all are back")
    assert not load.errors, load.errors
    rows = sorted(load.rows, key=lambda r: r["ended"])
    late = judge(ledger, rows)
    during = [r for r in rows
              if r["began"] > fault.began and r["ended"] < healing]
    bad = [r["ended"] for r in during if not fault.others_all(r)]
    repaired = next(r["ended"] for r in during
                    if fault.others_all(r) and
                    r["ended"] > max(bad, default=fault.began))
    waited = max(r["ended"] - r["began"] for r in during
                 if r["began"] > fault.began + fault.down + LATE)
    whole = next(r["ended"] for r in rows
                 if r["began"] > healing and r["complete"])
    return Survival(repaired - fault.began, whole - healing, waited, late)


def faults_in_turn(swarm, ledger, rng, count):
    """One after the other; the times that it took."""
    repaired = {k: [] for k in FAULTS}
    took = []
    for turn in range(count):
        kind = FAULTS[turn % 3]
        if kind == "cut":
            kind = rng.choice(("cut", "cut", "cut to", "cut away"))
        role = swarm.data("/api/v1/overlay")["role"]
        assert role == "root", "nothing happened to it, and another is"
        # a candidate that is cut off comes back as another root
        victim = rng.choice([i for i in inner(swarm)
                             if i not in CANDIDATES or kind in FAULTS[:2]])
        below = sum(p == victim for p in parents(swarm).values())
        took.append(survive(swarm, ledger, {victim: kind}))
        say(f"{turn + 1}: {kind} {victim}, {below} children: {took[-1]}")
        repaired[kind.split()[0]].append(took[-1].repaired)
    for kind, seconds in repaired.items():
        say(f"{kind}: repaired {summary(seconds)}")
    everything = [t.repaired for t in took]
    whole = [t.whole for t in took]
    say(f"all: repaired {summary(everything)}")
    say(f"whole again {summary(whole)}")
    say(f"questions of who is down {summary([t.waited for t in took])}")
    within(percentile(repaired["kill"], .5), 1.5, "p50 of repair, killed")
    within(percentile(everything, .99), 5, "p99 of repair")
    within(percentile(whole, .99), 10, "p99 of being whole again")
    within(percentile([t.waited for t in took], .99), 0.5,
           "p99 of questions that do not wait")
    within(sum(t.late for t in took), 0, "answers beyond the budget")


@many_faults
def test_t50b_inner_agents():
    count = int(os.environ.get("LINNET_ROUNDS", "200"))
    say(f"LINNET_TEST_SEED={SEED}")
    with Swarm(85, 4, "join") as swarm:
        faults_in_turn(swarm, ledger_of(swarm), random.Random(SEED), count)


# ---- T51b: the root ----


class Watch(threading.Thread):
    """A controller's questions to one candidate, five a second."""

    def __init__(self, swarm, i):
        super().__init__(daemon=True)
        self.swarm, self.i = swarm, i
        self.rows, self.wrong = [], []
        self.stopped = threading.Event()

    def _term(self):
        """The term in which it is the root, or None."""
        data = self.swarm.data("/api/v1/overlay", self.i)
        return data["role"] == "root" and data["epoch_text"].split(".")[0]

    def _one(self):
        term = self._term()
        began = time.monotonic()
        reply = self.swarm.ask("totals", self.i, timeout=5)
        if reply.status == 200 and term and self._term() == term:
            self.rows.append({**row_of(began, reply), "term": term})

    def run(self):
        while not self.stopped.wait(0.2):
            # it may be dead, or cut off while it is asked
            with contextlib.suppress(OSError):
                try:
                    self._one()
                except (AssertionError, ValueError, KeyError) as e:
                    self.wrong.append(e)

    def served(self, after):
        """When it first answered as the root what was asked after this."""
        return next((r["ended"] for r in self.rows if r["began"] > after),
                    None)


@contextlib.contextmanager
def watched(swarm, ledger):
    watches = [Watch(swarm, i) for i in CANDIDATES]
    for w in watches:
        w.start()
    try:
        yield watches
    finally:
        for w in watches:
            w.stopped.set()
        for w in watches:
            w.join()
    for w in watches:
        assert not w.wrong, w.wrong
        within(judge(ledger, w.rows), 0, "answers beyond the budget")


def the_root(swarm, running):
    """The one agent that is the root, with all these below it, or None."""
    roots = [i for i in running
             if swarm.data("/api/v1/overlay", i)["role"] == "root"]
    if len(roots) == 1 and swarm.up(roots[0]) == {address(i) for i in running}:
        return roots
    return None


def wait_root(swarm, running, seconds=20):
    return wait_until(lambda: the_root(swarm, running), seconds,
                      "one root and all below it")[0]


def wait_complete(swarm, root, seconds=20):
    """A new root waits 6 s for those that nobody has told it of."""
    wait_until(lambda: row_of(0, swarm.ask("totals", root))["complete"],
               seconds, "complete answers")


def tasks_at(swarm, i):
    """id -> generation"""
    return {t["id"]: t["generation"]
            for t in swarm.data("/api/v1/tasks?limit=100", i)}


def wait_tasks(swarm, want, hosts, seconds=10):
    for i in hosts:
        wait_until(lambda i=i: tasks_at(swarm, i) == want, seconds,
                   f"{address(i)} has {want}")


def send_again(swarm, root, tasks):
    """What a controller does when another root answers: none is new."""
    for task in tasks:
        def put(task=task):
            r = swarm.call("PUT", f"/api/v1/tasks/{task['id']}", task, root)
            return r.status != 503 and r
        r = wait_until(put, 10, "changes are taken")
        assert r.status == 200, r.text
        assert r.json()["data"]["id"] == task["id"]


def lose_root(swarm, watches, root, tasks):
    """Kills the root; who is it then, and how long it took to be served, and
    to have all others below it."""
    rest = [i for i in range(swarm.n) if i != root]
    want = {t["id"]: t["generation"] for t in tasks}
    began = time.monotonic()
    swarm.agents[root].kill()
    served = wait_until(lambda: [w.served(began) for w in watches
                                 if w.i != root and w.served(began)], 20,
                        "another root answers")[0] - began
    new = wait_root(swarm, rest)
    everybody = time.monotonic() - began
    send_again(swarm, new, tasks)
    wait_tasks(swarm, want, rest)
    swarm.start(root)
    new = wait_root(swarm, range(swarm.n))
    send_again(swarm, new, tasks)
    wait_tasks(swarm, want, range(swarm.n))
    assert new in CANDIDATES
    assert swarm.status(new)["overlay"]["hosts_expected"] == swarm.n
    return new, served, everybody


def partition(swarm, watches, root, side, ways, hold):
    """One side loses the root and gets another; then the links are whole.
    Who is the root then, seconds until there is one, and until answers are
    complete."""
    other = [i for i in range(swarm.n) if i not in side]
    swarm.cut(side, **ways)
    cut = time.monotonic()
    second = wait_until(lambda: [w.i for w in watches if w.i in side and
                                 w.served(cut)], 10, "two roots")[0]
    for part, rest, top in ((other, side, root), (side, other, second)):
        wait_until(lambda p=part, t=top:
                   swarm.up(t) == {address(i) for i in p}, 10,
                   "a root for each side")
        wait_until(lambda r=rest, t=top: set(watches[t].rows[-1]["missing"]) ==
                   {address(i) for i in r}, 10, "it names the rest")
    wait_until(lambda: time.monotonic() > cut + hold, hold + 1)
    for w in watches:
        bad = [r for r in w.rows if r["began"] > cut and r["complete"]]
        assert not bad, "complete, and cut off"
        bad = [r for r in w.rows if r["began"] > cut + 10 and
               r["expected"] != swarm.n]
        assert not bad, bad
    healed = time.monotonic()
    swarm.heal()
    root = wait_root(swarm, range(swarm.n))
    one = time.monotonic() - healed
    levels(swarm, root)
    wait_complete(swarm, root)
    return root, one, time.monotonic() - healed


def add_tasks(swarm, n):
    """Tasks as a controller keeps them: what it sends is what is there."""
    for i in range(n):
        r = swarm.call("POST", "/api/v1/tasks", {**SPEC, "name": f"task-{i}"})
        assert r.status == 201, r.text
    return swarm.data("/api/v1/tasks?limit=100")


@many_faults
def test_t51b_root():
    rng = random.Random(SEED)
    count = int(os.environ.get("LINNET_ROUNDS", "20"))
    say(f"LINNET_TEST_SEED={SEED}")
    with Swarm(13, 3, "join") as swarm:
        ledger, tasks = ledger_of(swarm), add_tasks(swarm, 3)
        root, times, heals = 0, [], []
        with watched(swarm, ledger) as watches:
            for turn in range(count):
                old = root
                root, *took = lose_root(swarm, watches, old, tasks)
                wait_complete(swarm, root)
                times.append(took)
                say(f"{turn + 1}: root {old} killed, now {root}: served after "
                    f"{took[0]:.2f} s, everybody after {took[1]:.2f} s")
            for ways in ({}, {"to": False}, {"away": False}, {}):
                rest = [i for i in range(swarm.n) if i != root]
                chosen = rng.choice([i for i in CANDIDATES if i != root])
                rest.remove(chosen)
                side = [chosen, *rng.sample(rest, 4)]
                root, *took = partition(swarm, watches, root, side,
                                        ways, 10)
                heals.append(took)
                say(f"partition {sorted(side)} {ways}: one root after "
                    f"{took[0]:.2f} s, complete after {took[1]:.2f} s")
    say(f"served {summary([t[0] for t in times])}")
    say(f"everybody {summary([t[1] for t in times])}")
    say(f"one root {summary([t[0] for t in heals])}")
    say(f"complete {summary([t[1] for t in heals])}")
    within(max(t[0] for t in times), 6, "served by another root")
    within(max(t[0] for t in heals), 10, "one root after a partition")
    within(max(t[1] for t in heals), 10, "complete after a partition")


# ---- T53b: tasks, while agents come, move and restart ----

class Witness(threading.Thread):
    """Looks at the tasks of all agents, one after the other, again and again:
    no generation goes back, and nothing that was deleted is there again."""

    def __init__(self, swarm):
        super().__init__(daemon=True)
        self.swarm, self.looks, self.wrong = swarm, 0, []
        self.seen = [{} for _ in range(swarm.n)]
        self.gone = [set() for _ in range(swarm.n)]
        self.deleted = set()
        self.stopped = threading.Event()

    def forget(self, i):
        """It restarts: what it has is what it last wrote."""
        self.seen[i], self.gone[i] = {}, set()

    def _look(self, i):
        seen, gone, deleted = self.seen[i], self.gone[i], set(self.deleted)
        there = tasks_at(self.swarm, i)
        self.looks += 1
        for task, generation in there.items():
            if generation < seen.get(task, 0) or task in gone:
                self.wrong.append((i, task, generation, seen, gone))
        seen.update(there)
        gone |= deleted - there.keys()

    def run(self):
        while not self.stopped.wait(0.01):
            for i in range(self.swarm.n):
                with contextlib.suppress(OSError):
                    self._look(i)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


class Controller(threading.Thread):
    """Changes tasks, and knows what must be there in the end."""

    def __init__(self, swarm, witness, rng, count):
        super().__init__(daemon=True)
        self.swarm, self.witness, self.rng = swarm, witness, rng
        self.count, self.want, self.error = count, {}, None
        self.want = {t["id"]: t for t in swarm.data("/api/v1/tasks?limit=100")}

    def _change(self, turn):
        own = [t for t in self.want if t != self.swarm.task]
        what = self.rng.random()
        if len(own) < 4 or (what < 0.3 and len(own) < 12):
            r = self.swarm.call("POST", "/api/v1/tasks",
                                {**SPEC, "name": f"turn-{turn}"})
        elif what < 0.7 or len(own) < 8:
            task = self.want[self.rng.choice(own)]
            task = {**task, "generation": task["generation"] + 1,
                    "name": f"turn-{turn}"}
            r = self.swarm.call("PUT", f"/api/v1/tasks/{task['id']}", task)
        else:
            task = self.rng.choice(own)
            r = self.swarm.call("DELETE", f"/api/v1/tasks/{task}")
            assert r.status == 204, r.text
            del self.want[task]
            self.witness.deleted.add(task)
            return
        assert r.status in (200, 201), r.text
        self.want[r.json()["data"]["id"]] = r.json()["data"]

    def run(self):
        try:
            for turn in range(self.count):
                self._change(turn)
                time.sleep(0.1)  # as a controller would
        except (AssertionError, OSError) as e:
            self.error = e


def trouble(swarm, witness, rng, controller, count):
    """Agents restart and are moved, at least until all changes are made; who
    is late comes.  How often."""
    late = list(range(swarm.n - swarm.late, swarm.n))
    others = range(1, swarm.n - swarm.late)
    turn = 0
    while turn < count or controller.is_alive():
        time.sleep(rng.random() * 0.5)  # a moment of peace
        turn += 1
        if turn % 2:
            i = rng.choice(others)
            swarm.agents[i].kill()
            witness.forget(i)
            swarm.start(i)
        else:
            above = parents(swarm)
            i = rng.choice([i for i, p in above.items() if p is not None])
            r = swarm.call("DELETE",
                           f"/api/v1/overlay/children/{address(i)}",
                           i=above[i])
            assert r.status in (204, 404), r.text  # 404: it has just moved
        if late:
            swarm.start(late.pop())
    for i in late:
        swarm.start(i)
    swarm.late = 0
    return turn


def converge(swarm, want):
    """Seconds until the tree stands, and until all hold the same tasks."""
    began = time.monotonic()
    everybody = {address(i) for i in range(swarm.n)}
    wait_until(lambda: swarm.up() == everybody, 20, "all are there")
    whole = time.monotonic() - began

    def hashes():
        return {swarm.data("/api/v1/overlay", i)["tasks_hash"]
                for i in range(swarm.n)}

    wait_until(lambda: len(hashes()) == 1, 40, "the same tasks")
    same = time.monotonic() - began
    wait_tasks(swarm, want, range(swarm.n), 1)
    # they know it themselves, from the beats
    wait_until(lambda: all(
        swarm.data("/api/v1/overlay", i)["tasks_same"] in (True, None)
        for i in range(swarm.n)), 5, "beats say so")
    return whole, same


def change_tasks(swarm, rng, changes, troubles):
    """The tasks that are there in the end, as the controller knows them."""
    with Witness(swarm) as witness:
        controller = Controller(swarm, witness, rng, changes)
        controller.start()
        troubles = trouble(swarm, witness, rng, controller, troubles)
        controller.join()
        assert not controller.error, controller.error
        whole, same = converge(swarm, {
            t["id"]: t["generation"] for t in controller.want.values()})
    assert not witness.wrong, witness.wrong
    depth = levels(swarm)
    say(f"{changes} changes, {troubles} restarts and moves, {witness.looks} "
        f"looks: whole after {whole:.2f} s, {depth} levels have "
        f"{len(controller.want)} tasks after {same:.2f} s")
    within(same - whole, 1.1 * depth, "a beat a level")
    return list(controller.want.values())


@many_faults
def test_t53b_tasks():
    rng = random.Random(SEED)
    say(f"LINNET_TEST_SEED={SEED}")
    with Swarm(64, 4, "join", late=4) as swarm:
        for _ in range(5):
            change_tasks(swarm, rng, 100, 12)
    with Swarm(60, 40, "list") as swarm:
        change_tasks(swarm, rng, 50, 6)


# ---- T56b: many answers, while agents come, go and move ----

class Churn:
    """Agents restart, are lost for some seconds, or are moved, one each 200 ms,
    or now and then; rows tell which hosts are members for sure."""

    MOVES = 8  # at once: the judge tries all combinations
    RARELY_S = 2.5

    def __init__(self, swarm, rng):
        self.swarm, self.rng = swarm, rng
        self.rows, self.events, self.moves = [], 0, 0
        self.rare = []      # times of rare events
        self.lost, self.moved, self.starting = {}, set(), []

    def member(self, i, joined):
        self.rows.append({"member": address(i), "at": time.monotonic(),
                          "in": joined})

    def restart(self, i, seconds=0):
        agent = self.swarm.agents[i]
        agent.kill()
        self.starting = [a for a in self.starting if a is not agent]
        self.lost[i] = time.monotonic() + seconds

    def lose(self, i):
        self.restart(i, self.rng.uniform(0.5, 5))

    def move(self, i):
        """A leaf loses its parent, and asks for another place."""
        above = parents(self.swarm)
        if i in above.values() or i in self.moved or above.get(i) is None \
                or above[i] in self.lost or len(self.moved) == self.MOVES:
            return
        self.member(i, False)
        self.moved.add(i)
        self.moves += 1
        r = self.swarm.call("DELETE",
                            f"/api/v1/overlay/children/{address(i)}",
                            i=above[i])
        assert r.status in (204, 404), r.text  # 404: it has just moved

    def come_back(self, now):
        for i in [i for i, at in self.lost.items() if at <= now]:
            del self.lost[i]
            self.starting.append(self.swarm.start(i, wait=False))

    def run(self, seconds, rarely=False):
        """So long; then until all are there again."""
        due = time.monotonic()
        end = due + seconds
        if rarely:
            self.rare.append((due, end))
        while due < end:
            what = self.rng.choice((self.restart, self.move) if rarely else
                                   (self.restart, self.lose, self.move))
            i = self.rng.choice([i for i in range(1, self.swarm.n)
                                 if i not in self.lost])
            what(i)
            self.events += 1
            due += self.RARELY_S if rarely else 0.2
            self.come_back(due)
            time.sleep(max(0, due - time.monotonic()))
        self.come_back(due + 10)
        for agent in self.starting:
            agent.wait_ready(20)
        self.starting = []
        everybody = {address(i) for i in range(self.swarm.n)}
        wait_until(lambda: self.swarm.up() == everybody, 30, "all are back")
        for i in self.moved:
            self.member(i, True)
        self.moved = set()


@many_faults
def test_t56b_answers():
    count = int(os.environ.get("LINNET_ANSWERS", "10000"))
    say(f"LINNET_TEST_SEED={SEED}")
    with Swarm(127, 8, "join") as swarm:
        ledger, churn = ledger_of(swarm), Churn(swarm, random.Random(SEED))
        with Questions(swarm) as load:
            while len(load.rows) < count:
                churn.run(10)
                wait_until(lambda: load.rows[-1]["complete"], 30, "complete")
                churn.run(10, rarely=True)
                say(f"{len(load.rows)} answers, {churn.events} events, "
                    f"{churn.moves} moves")
        assert not load.errors, load.errors
        within(judge(ledger, churn.rows + load.rows, teeth=True), 0,
               "answers beyond the budget")
        during = [r["complete"] for r in load.rows if any(
            a < r["began"] < b for a, b in churn.rare)]
        say(f"{sum(during)} of {len(during)} complete while agents moved")
        assert len(during) // 10 < sum(during) < len(during) * 9 // 10


# ---- all of it in small ----

@best_of_3
def test_t50b_t51b_t53b_short():
    """Tasks change while agents come, move and restart; all children of the
    root are lost at once, each in another way; then the root is; then a side
    is cut off with one of the other candidates."""
    with Swarm(13, 3, "join", late=1) as swarm:
        tasks = change_tasks(swarm, random.Random(SEED), 10, 2)
        ledger = ledger_of(swarm)
        victims = sorted(i for i, p in parents(swarm).items() if p == 0)
        took = survive(swarm, ledger, dict(zip(victims, FAULTS)))
        say(took)
        within(took.repaired, 5, "repair")
        within(took.whole, 10, "whole again")
        within(took.waited, 0.5, "a question that waits for nobody")
        within(took.late, 0, "answers beyond the budget")
        with watched(swarm, ledger) as watches:
            root, served, everybody = lose_root(swarm, watches, 0, tasks)
            say(f"served after {served:.2f} s, everybody after "
                f"{everybody:.2f} s")
            within(served, 6, "served by another root")
            side = [next(i for i in CANDIDATES if i != root), 6, 9, 12]
            root, one, whole = partition(swarm, watches, root, side,
                                         {}, 0)
            say(f"one root after {one:.2f} s, complete after {whole:.2f} s")
            within(one, 10, "one root after a partition")
            within(whole, 10, "complete after a partition")


if __name__ == "__main__":
    os.environ["LINNET_TEST_FULL"] = "1"
    raise SystemExit(pytest.main([__file__, "-s", "-q"]))

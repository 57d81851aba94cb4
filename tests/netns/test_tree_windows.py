# SPDX-License-Identifier: GPL-2.0-or-later
"""Closed windows of a tree: the same for everybody, whole or named missing."""
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import Lab, wait_until
from middle import coverage, middle
from traffic import reproducible, spray, udp_packet
from tree import COUNTER, Node, Tree, configure, request

FULL = os.environ.get("LINNET_TEST_FULL") == "1"
SHAPE = {0: [1, 2], 2: [3]}
W = 1
KINDS = ["cms", "topk", "hll"]


def now():
    return int(time.time() // W)


def begin(k):
    """Well into window k: the kernel's counters are read a moment late."""
    wait_until(lambda: time.time() >= k * W + W / 5, 5, f"window {k}")


def moment(k):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(k * W))


def create(node, **members):
    r = node.post("/api/v1/tasks", {
        "filter": {"direction": "in", "proto": "udp"}, "key": "src",
        "increment": "byte", "sketches": KINDS, "window_s": W, **members})
    return r


def send_to(tree, n):
    """n datagrams of 100 bytes to the last node."""
    a, b = tree.nodes[-2:]
    spray(a.host, [udp_packet(a.address, b.address, 1111, 53, bytes(72))] * n,
          2000)


def busy_window(tree, n):
    """A window in which the last one got n datagrams, and nobody any else."""
    for _ in range(5):
        k = now() + 1
        begin(k)
        send_to(tree, n)
        if now() == k:
            return k
    raise AssertionError("too slow for a window, five times")


def send(nodes, n):
    """Each node sends n datagrams of 100 bytes to the next one."""
    for a, b in zip(nodes, nodes[1:] + nodes[:1]):
        spray(a.host, [udp_packet(a.address, b.address, 1111, 53, bytes(72))]
              * n, 2000)


def windows(tree):
    """Sends in three windows; the first of them."""
    for _ in range(5):
        first = now() + 1
        for i in range(3):
            begin(first + i)
            send(tree.nodes, 10 * (i + 1))
            if now() != first + i:
                break
        else:
            return first
    raise AssertionError("too slow for a window, five times")


def check(tree, path, k, n):
    """Window k has n datagrams of each node."""
    def get(what):
        return tree.root.get(f"{path}/{what}window={moment(k)}")

    r = get("top?")
    assert r.status == 200, r.text
    meta, data = r.json()["meta"], r.json()["data"]
    assert meta["window"] == {"kind": "tumbling", "seconds": W,
                              "start": moment(k)[:-1] + ".000Z"}
    assert meta["coverage"]["complete"] and meta["recall"] == "certain", r.text
    assert {d["key"]: (d["lower"], d["estimate"]) for d in data} == {
        node.address: (n * 100, n * 100) for node in tree.nodes}
    assert meta["loss"]["matched"]["packets"] == n * len(tree.nodes)
    assert get("totals?").json()["data"]["packets"] == n * len(tree.nodes)
    assert get("distinct?").json()["data"]["estimate"] == len(tree.nodes)
    r = get(f"estimate?key={tree.nodes[1].address}&").json()
    assert r["data"][0]["estimate"] == n * 100


def test_windows():
    with Tree(SHAPE) as tree:
        r = create(tree.root)
        assert r.status == 201, r.text
        assert r.json()["data"]["window_s"] == W
        path = "/api/v1/tasks/" + r.json()["data"]["id"]
        first = windows(tree)
        begin(first + 3)
        wait_until(lambda: tree.root.get(path + "/windows").json()["data"][0][
            "start"] >= moment(first + 2), 2, "the last one to be closed")
        for i in range(3):
            check(tree, path, first + i, 10 * (i + 1))
        listed = tree.root.get(path + "/windows").json()["data"]
        assert {moment(first + i)[:-1] + ".000Z" for i in range(3)} <= {
            w["start"] for w in listed}
        last = tree.root.get(path + "/top")  # the last one is the default
        assert last.json()["meta"]["window"]["kind"] == "tumbling"
        assert last.json()["meta"]["window"]["start"] >= listed[0]["start"]
        # refused, with what is allowed
        for bad in ("current", "2026-01-31", "2026-01-31T00:00:00Z",
                    moment(now() + 5), "-1"):
            r = tree.root.get(f"{path}/totals?window={bad}")
            assert r.status == 422 and "window" in r.text, (bad, r.text)
        plain = create(tree.root, window_s=0).json()["data"]["id"]
        r = tree.root.get(f"/api/v1/tasks/{plain}/totals?window=last")
        assert r.status == 422 and "no windows" in r.text
        assert tree.root.get(f"/api/v1/tasks/{plain}/windows").json()[
            "data"] == []
        for bad in (0.05, 3601, -1, "1", 1.23):
            r = create(tree.root, window_s=bad)
            assert r.status == 422 and "window_s" in r.text, (bad, r.text)


def test_host_without_the_window():
    """A monitor that was restarted has not counted the window whole."""
    with Tree(SHAPE) as tree:
        path = "/api/v1/tasks/" + create(tree.root).json()["data"]["id"]
        leaf = tree.nodes[3]
        begin(now() + 2)
        leaf.monitor.signal(signal.SIGTERM)
        leaf.monitor.wait()
        leaf.monitor = leaf.host.monitor(instance="lab")
        wait_until(lambda: leaf.get("/api/v1/status").json()["data"][
            "monitor"]["state"] == "attached", 5, "its monitor is back")
        k = now()
        begin(k + 1)
        time_of = f"{path}/totals?window={moment(k)}"

        def missing():
            r = tree.root.get(time_of)
            return r.status == 200 and r.json()["meta"]["coverage"]
        coverage = wait_until(missing, 2, "the window to be closed")
        assert not coverage["complete"]
        assert [(m["host"], m["reason"]) for m in coverage["missing"]] == [
            (leaf.address, "no_window")]
        assert coverage["hosts_answered"] == 3


def test_many_readers_cost_one_question():
    """What was complete is told again, though a host is gone since."""
    with Tree(SHAPE) as tree:
        path = "/api/v1/tasks/" + create(tree.root).json()["data"]["id"]
        k = windows(tree) + 1
        begin(k + 1)
        queries = [f"{path}/{what}window={moment(k)}" for what in (
            "top?", "top?n=2&", "distinct?", "totals?",
            f"estimate?key={tree.root.address}&key=10.99.99.99&")]

        def ask(query):
            r = tree.root.get(query)
            return r.status == 200 and r.json()
        first = [wait_until(lambda: ask(q), 2, "an answer") for q in queries]
        assert all(a["meta"]["coverage"]["complete"] for a in first)
        leaf = tree.nodes[3]
        leaf.agent.kill()
        for _ in range(3):
            for query, before in zip(queries, first):
                again = ask(query)
                assert again["data"] == before["data"]
                assert again["meta"]["coverage"] == before["meta"]["coverage"]
                assert again["meta"]["request_id"] != before["meta"][
                    "request_id"]
        # many at the same moment, too
        with ThreadPoolExecutor(8) as pool:
            for again in pool.map(ask, [queries[0]] * 40):
                assert again["data"] == first[0]["data"]
        # another question about it was not asked yet
        r = ask(f"{path}/top?n=3&window={moment(k)}")
        assert not r["meta"]["coverage"]["complete"]
        # and what is not complete is not kept
        leaf.start()
        wait_until(lambda: ask(f"{path}/top?n=3&window={moment(k)}")["meta"][
            "coverage"]["complete"], W * 3, "a complete answer")
        tree.root.agent.signal(signal.SIGTERM)
        assert tree.root.agent.wait() == 0


def role(node):
    status = node.get("/api/v1/status").json()["data"]
    return status["overlay"]["role"], status["overlay"]["hosts_expected"]


if FULL:  # test_kept.c has the short form
    def test_who_was_the_root_answers_for_what_is_below_it_now():
        with Lab(3) as lab:
            lab.dir.chmod(0o711)  # the agents are not root
            first, second, _ = addresses = [h.ip4 for h in lab.hosts]
            args = ["--root", first, "--root", second]
            for a in addresses:
                args += ["--seed", a]
            nodes = [Node(h, [], args=args) for h in lab.hosts]
            for node in nodes:
                node.start()
            old = nodes[0]
            wait_until(lambda: role(old) == ("root", 3)
                       and old.get("/api/v1/overlay").json()["data"]["settled"],
                       20, "three members")
            path = "/api/v1/tasks/" + create(old).json()["data"]["id"]
            k = now() + 1
            begin(k + 1)
            query = f"{path}/totals?window={moment(k)}"

            def coverage():
                r = old.get(query)
                return r.status == 200 and r.json()["meta"]["coverage"]
            wait_until(lambda: (c := coverage()) and c["complete"]
                       and c["hosts_expected"] == 3, 5, "it is complete")
            r = request(old.host, old.address, "POST", "/api/v1/overlay/drain")
            assert r.status == 204, r.text
            wait_until(lambda: role(old)[0] == "detached", 10, "it has left")
            assert not coverage()["complete"]


# ---- standing queries: parents ask by themselves ----

def asked(tree):
    return [n.get("/api/v1/status").json()["data"]["overlay"]["questions"]
            for n in tree.nodes]


def asked_by(tree):
    """A window, and what was asked when the one before it was over."""
    for _ in range(5):
        k = int(time.time() + 0.15)
        wait_until(lambda: time.time() >= k + 0.7, 3, "all have asked")
        n = asked(tree)
        if time.time() < k + 1.25:
            return k, n
    raise AssertionError("too slow for a window, five times")


def test_standing():
    """However many read at the root, each host is asked once a window."""
    with Tree(SHAPE) as tree:
        r = create(tree.root, standing=["totals", "top?n=3"])
        assert r.status == 201, r.text
        assert r.json()["data"]["standing"] == ["totals", "top?n=3"]
        path = "/api/v1/tasks/" + r.json()["data"]["id"]
        assert tree.nodes[3].get(path).json()["data"]["standing"] == [
            "totals", "top?n=3"]
        first = windows(tree)

        def get(query, k=None):
            if k is not None:
                query += f"{'&' if '?' in query else '?'}window={moment(k)}"
            r = tree.root.get(f"{path}/{query}")
            assert r.status == 200, r.text
            return r.json()
        # the last one is there once every parent has asked, not before
        wait_until(lambda: get("totals")["meta"]["window"]["start"] ==
                   moment(first + 2)[:-1] + ".000Z", 2, "the third window")
        for k, n in ((first + 1, 20), (first + 2, 30)):
            for query in ("totals", "top?n=3"):
                doc = get(query, k)
                assert doc["meta"]["coverage"]["complete"], doc
                if query == "totals":
                    assert doc["data"]["packets"] == n * len(tree.nodes)
                else:
                    assert [d["estimate"] for d in doc["data"]] == [
                        n * 100] * 3
        # what it costs, with readers and without
        k, before = asked_by(tree)
        for readers in (0, 8):
            with ThreadPoolExecutor(8) as pool:
                done = list(pool.map(lambda _: get("totals"),
                                     range(readers * 10)))
            assert all(d["meta"]["coverage"]["complete"] for d in done)
            begin(k + 1)
            later, after = asked_by(tree)
            # two questions a window, each once: the root asks 1 and 2, 2 asks 3
            assert [b - a for a, b in zip(before, after)] == [
                i * 2 * (later - k) for i in (0, 1, 1, 1)], (k, later)
            k, before = later, after


# ---- alarms: silence is an answer, death is not ----

def states(node, path):
    """start of a window -> what is said of it, the youngest first"""
    r = node.get(path + "/alarm")
    assert r.status == 200, r.text
    return {w["start"]: w for w in r.json()["data"]["windows"]}


def alarm_state(tree, path, k, *wanted, seconds=8):
    def state():
        w = states(tree.root, path).get(moment(k)[:-1] + ".000Z")
        return w and w["state"] in wanted and w
    return wait_until(state, seconds, f"window {k} to be {wanted}")


# FULL: an agent in between, whose silence stands for another's
@pytest.mark.parametrize("shape", [{0: [1, 2]}, *([SHAPE] if FULL else [])])
def test_alarm(shape):
    with Tree(shape) as tree:
        r = create(tree.root, sketches=["hll"],
                   standing=["alarm?over=4000", "totals"])
        assert r.status == 201, r.text
        task, n = r.json()["data"], len(tree.nodes)
        assert task["standing"] == [f"alarm?over=4000&hosts={n}", "totals"]
        path = "/api/v1/tasks/" + task["id"]
        leaf, share = tree.nodes[-1], 4000 // n
        wait_until(lambda: leaf.get(path + "/alarm").json()["data"][
            "limit"] == share, 3, "its share of the limit")
        # each speaks once, and then while it has more than its share
        if shape is SHAPE:
            alarm_state(tree, path, now() + 1, "quiet", seconds=12)
        loud = busy_window(tree, 50)
        w = alarm_state(tree, path, loud, "over", "quiet", "blind", seconds=3)
        assert (w["state"], w["lower"]) == ("over", 5000), w
        # more than its share, but not more than all may have: those beside it
        # are asked where their shares leave a doubt
        before, first = asked(tree), now()
        k = busy_window(tree, 30)
        w = alarm_state(tree, path, k, "over", "quiet", "blind")
        assert (w["state"], w["lower"], w["upper"]) == (
            "quiet", 3000, 4000 if shape is SHAPE else 3000), w
        # what all have together is known by silence alone
        k = busy_window(tree, 5)
        w = alarm_state(tree, path, k, "over", "quiet", "blind")
        assert (w["state"], w["lower"], w["upper"], w["missing"]) == (
            "quiet", 0, share * (n - 1), []), w
        # but for "totals" and one doubt, nobody was asked
        asks = [b - a for a, b in zip(before, asked(tree))]
        assert max(asks) <= now() - first + 2, asks

        # who cannot count is not silent, nor is who is dead
        def blind(why):
            k = now() + 1
            w = alarm_state(tree, path, k, "over", "quiet", "blind")
            assert (w["state"], w["upper"]) == ("blind", None), w
            assert [(m["host"], m["reason"]) for m in w["missing"]] == [
                (leaf.address, why)], w
        leaf.monitor.signal(signal.SIGTERM)
        leaf.monitor.wait()
        blind("monitor_down")
        leaf.agent.kill()
        blind("unreachable")


def test_alarm_of_a_generation():
    """A new one has the hosts of now; the same one, put again, its own."""
    with Tree({0: [1]}) as tree:
        asks = ["alarm?over=4000", "totals"]
        task = create(tree.root, sketches=["hll"], standing=asks).json()["data"]
        members = {"filter": {"direction": "in", "proto": "udp"}, "key": "src",
                   "increment": "byte", "sketches": ["hll"], "window_s": W,
                   "standing": asks}
        for generation in (1, 2, 2):
            r = tree.root.post(f"/api/v1/tasks/{task['id']}", {
                **members, "generation": generation}, method="PUT")
            assert r.status == 200, r.text
            assert r.json()["data"]["standing"] == [
                "alarm?over=4000&hosts=2", "totals"]
            assert r.json()["data"]["generation"] == generation


# ---- what a child may not say of an alarm ----

def test_alarm_of_a_hostile_child():
    """Only the child itself, of a task both have, and only what can be."""
    with Tree({0: [1]}) as tree, middle(tree.nodes[1]) as server:
        root, child = tree.nodes
        configure(tree)
        tree.wait_complete(**COUNTER)
        r = root.post("/api/v1/tasks", {
            "filter": {"direction": "in", "proto": "udp"}, "key": "src",
            "increment": "byte", "sketches": ["hll"], "window_s": 1,
            "standing": ["alarm?over=1000000"]})
        assert r.status == 201, r.text
        task = r.json()["data"]["id"]
        path = f"/api/v1/tasks/{task}"

        def asked():
            root.get(path + "/totals")
            return next((a for a in server.asks
                         if a[1]["task"] == task), None)
        headers, ask_body = wait_until(asked, 10, "the child was asked")
        lease = {"X-Linnet-Lease": headers["X-Linnet-Lease"]}

        def say(lease=lease, **changes):
            said = {"task": task, "least": 1, "most": 2,
                    "task_hash": ask_body["task_hash"],
                    "window": int(time.time()) - 2, "sure": True,
                    "blind": False, **changes}
            return request(
                child.host, root.address, "POST", "/api/v1/peer/alarm",
                json.dumps(said), {"Content-Type": "application/json", **lease}
                ).status

        wait_until(lambda: say() == 204, 5, "the alarm of the root")
        assert say(least=0, most=2**63) == 204
        for bad in (
                {"least": 2**63 + 1, "most": 2**64 - 1}, {"most": 2**63 + 1},
                {"most": 2**64 - 1}, {"most": 2**64}, {"least": 3},
                {"least": -1}, {"least": 1.5}, {"least": "1"}, {"most": None},
                {"sure": 1}, {"blind": None}, {"window": 0}, {"window": -1},
                {"window": 2**48 + 1}, {"task": "x"}, {"task_hash": 5}):
            assert say(**bad) == 400, bad
        # who says nothing else does not fill the log
        assert tree.lab.logs().count("alarm rejected") == 1
        # later, perhaps: its clock is ahead, or the task is not there yet
        for early in ({"window": int(time.time()) + 60},
                      {"task": "12" * 8}, {"task_hash": "12" * 8}):
            assert say(**early) == 503, early
        assert say(window=int(time.time()) - 100) == 422
        for other in ("1.0000000000000000.1", "0.0000000000000000.0"):
            assert say({"X-Linnet-Lease": other}, least=10**7,
                       most=10**7) == 409, other
        for none in ({}, {"X-Linnet-Lease": ""}, {"X-Linnet-Lease": "x"}):
            assert say(none, least=10**7, most=10**7) == 400, none
        windows = wait_until(lambda: root.get(path + "/alarm").json()["data"][
            "windows"], 5, "a window to be judged")
        assert "over" not in {w["state"] for w in windows}


# ---- standing queries while agents move and restart ----

def test_t66b_restarts():
    """A host is in a window at most once; who was away is named."""
    with Tree(SHAPE) as tree:
        r = create(tree.root, standing=["totals"])
        path = "/api/v1/tasks/" + r.json()["data"]["id"]
        rng = reproducible(os.environ.get("LINNET_TEST_SEED") or
                           time.time_ns() % 2**32)
        begin(now() + 1)
        sent, seen = {}, {}
        for i in range(20 if FULL else 3):
            k = now() + 1
            begin(k)
            send(tree.nodes, 10)
            sent[k] = now() == k
            node = tree.nodes[rng.choice([1, 2, 3])]
            # about when parents ask
            at = k + 1 + rng.random() / 2
            wait_until(lambda: time.time() >= at, 3, "a moment")
            if i % 2:
                node.agent.kill()
                node.start(wait=False)
            seen[k] = wait_until(lambda: (r := tree.root.get(
                f"{path}/totals?window={moment(k)}")).status == 200
                and r.json(), 3, f"window {k}")
        for k, doc in seen.items():
            n = doc["meta"]["coverage"]
            assert doc["data"]["packets"] <= 10 * n["hosts_answered"] + (
                0 if sent[k] else 40), (k, doc)
            assert n["hosts_answered"] + len(n["missing"]) == n[
                "hosts_expected"] == 4, (k, doc)
            if n["complete"] and sent[k]:
                assert doc["data"]["packets"] == 10 * len(tree.nodes), (k, doc)
        whole = [d["meta"]["coverage"]["complete"] for d in seen.values()]
        print(f"{len(seen)} windows seen, {sum(whole)} of them whole")
        assert sum(whole) > 0
        # one who is killed when it has answered is missed by nobody
        assert not FULL or sum(whole) < len(seen)


def test_clock_that_is_wrong():
    """By more than a tenth of a window: not complete, and it has a name."""
    with Tree({0: [1], 1: [2]}) as tree:
        r = tree.root.post("/api/v1/tasks", {
            "filter": {"direction": "in"}, "key": "src", "window_s": 2,
            "sketches": ["exact"]})
        assert r.status == 201, r.text
        path = f"/api/v1/tasks/{r.json()['data']['id']}/"

        def meta(what):
            r = tree.root.get(path + what)
            return r.json().get("meta") if r.status == 200 else None

        def whole(what):
            m = meta(what)
            return m and m["coverage"]["complete"]

        def warned(what, node, ms):
            m = meta(what)
            return (m["coverage"]["hosts_answered"] == 3 and
                    not m["coverage"]["complete"] and
                    not m["coverage"]["missing"] and m.get("warnings") == [
                        f"skew: the clock of {node.address} is up to {ms} ms "
                        "off"])

        with middle(tree.nodes[1]) as server:
            leaf = tree.nodes[2].get("/api/v1/status").json()["data"]["node_id"]
            for what, ms in ("totals", 210), ("realtime", 110):
                wait_until(lambda what=what: whole(what), 20, what)
                # who is not below it cannot be named by it
                for clock_of, node in ((leaf, tree.nodes[2]),
                                       ("ab" * 16, tree.nodes[1])):
                    server.play = coverage(clock_err_ms=ms, clock_of=clock_of)
                    wait_until(lambda what=what, node=node, ms=ms:
                               warned(what, node, ms), 5, what)
                server.play = coverage(clock_err_ms=ms - 20)
                wait_until(lambda what=what: whole(what), 5, what)
                assert "warnings" not in meta(what)
                server.play = None

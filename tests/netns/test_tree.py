# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees of real agents: dead, slow and lying children, rules of adding."""
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import Lab, best_of_3, wait_until, within
from middle import STAR, drip, late, middle, star_with_middle, stranger
from tree import (COUNTER, EIGHT, Load, Node, Tree, ask, check_answer,
                  configure, ledger_of, ping_all, request, token_files)


# ---- T50: each agent killed in turn under 20 queries a second ----

@best_of_3
def test_t50_killed_in_turn():
    with Tree(EIGHT) as tree:
        configure(tree)
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        assert all(ledger.values())
        tree.wait_complete(**COUNTER)
        for i in range(1, len(tree.nodes)):
            kill_one(tree, i, ledger)


def kill_one(tree, i, ledger):
    gone = {tree.nodes[k].address for k in tree.below(i)}
    with Load(tree.root, 20, **COUNTER) as load:
        wait_until(lambda: len(load.replies) > 3, 5, "queries run")
        tree.nodes[i].agent.kill()
        dead = time.monotonic()
        wait_until(lambda: time.monotonic() > dead + 1.2, 5)
    assert not load.errors, load.errors
    for began, reply in load.replies:
        within(reply.seconds, 2.1, f"answer without {sorted(gone)}")
        check_answer(reply, ledger, gone, {"unreachable", "behind"})
        if began > dead:
            assert reply.missing[tree.nodes[i].address] == "unreachable"
            assert set(reply.missing) == gone
    tree.nodes[i].start()
    reply = tree.wait_complete(**COUNTER)
    check_answer(reply, ledger, set(), set())


def test_t50_stopped_leaf_and_branch():
    """SIGSTOP: costs at most the budget until it is down, then nothing."""
    with Tree(EIGHT) as tree:
        configure(tree)
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        tree.wait_complete(**COUNTER)
        for i in (1, 5):
            gone = {tree.nodes[k].address for k in tree.below(i)}
            tree.nodes[i].agent.signal(signal.SIGSTOP)
            began = time.monotonic()
            while time.monotonic() < began + 4:
                reply = tree.root.ask(**COUNTER)
                assert reply.seconds < 2.1
                check_answer(reply, ledger, gone,
                             {"timeout", "unreachable", "behind"})
                assert set(reply.missing) == gone
            assert reply.seconds < 0.5, "a child that is down is not asked"
            assert reply.missing[tree.nodes[i].address] == "unreachable"
            tree.nodes[i].agent.signal(signal.SIGCONT)
            check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())


def disturb(tree, seconds, rng):
    """Kills, ends or stops one agent after the other."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        node = tree.nodes[rng.randrange(1, len(tree.nodes))]
        what = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        node.agent.signal(what)
        if what != signal.SIGSTOP:
            node.agent.wait()
        time.sleep(rng.random() * 2)  # how long it is away
        if what == signal.SIGSTOP:
            node.agent.signal(signal.SIGCONT)
        else:
            node.start()


def test_random_faults():
    """No host twice, nothing wrong called complete, every answer in time."""
    seed = int(os.environ.get("LINNET_TEST_SEED", time.time_ns() % 10**6))
    print(f"LINNET_TEST_SEED={seed}")
    with Tree(EIGHT) as tree:
        configure(tree)
        ping_all(tree.nodes[:3])
        ledger = ledger_of(tree.nodes, **COUNTER)
        tree.wait_complete(**COUNTER)
        with Load(tree.root, 20, **COUNTER) as load:
            disturb(tree, 20, random.Random(seed))
            wait_until(lambda: load.replies[-1][1].complete, 10, "all back")
        assert not load.errors, load.errors
        kinds = set()
        for _, reply in load.replies:
            assert reply.status == 200
            answered, expected = reply.answered
            missing = reply.missing
            kinds.add(reply.complete)
            assert len(missing) == expected - answered, reply.headers
            assert reply.json()[0] == sum(
                v for a, v in ledger.items() if a not in missing)
            if reply.complete:
                assert (answered, expected) == (len(ledger), len(ledger))
        assert kinds == {True, False}, "no teeth"
        tree.wait_complete(**COUNTER)


def test_remove_child():
    """It keeps measuring, becomes a root, and may go elsewhere."""
    with Tree({0: [1, 2]}) as tree:
        configure(tree)
        root, one, two = tree.nodes
        path = f"/api/v1/overlay/children/{two.address}"
        assert request(root.host, root.address, "DELETE", path).status == 204
        assert request(root.host, root.address, "DELETE", path).status == 404
        assert root.ask(**COUNTER).answered == (2, 2)
        wait_until(lambda: add(one, two.address)[0] == 200, 10,
                   "it is a root again and may join another")
        wait_until(lambda: root.ask(**COUNTER).answered == (3, 3), 10,
                   "its place is known")
        tree.wait_complete(**COUNTER)



@best_of_3
def test_t52_slow_child():
    """Late, too late, a byte a second, stopped; answers of two tasks never mix.
    """
    with star_with_middle() as (tree, server, ledger):
        gone = {tree.nodes[3].address}
        udp = {"type": "query counter", "interface": "INPUT", "proto": "udp"}
        none = dict.fromkeys(ledger, 0)

        def one(i, budget, reasons):
            query, want = ((COUNTER, ledger), (udp, none))[i % 2]
            budget += i // 2  # equal questions would share an answer
            reply = ask(tree.root.host, tree.root.address, budget, **query)
            within(reply.seconds, (budget + 100) / 1000, "slow child")
            check_answer(reply, want, gone, reasons)
            return not reply.missing

        def many(budget, reasons):
            # 16 at once is what a child is asked: none waits for its turn
            with ThreadPoolExecutor(12) as pool:
                return list(pool.map(lambda i: one(i, budget, reasons),
                                     range(250)))

        for play, budget, comes in ((late(0.5), 1000, True),
                                    (late(5), 300, False),
                                    (drip, 300, False), (None, 500, True)):
            server.play, before = play, len(server.asks)
            came = many(budget, {"timeout"})
            assert len(server.asks) - before >= 250
            if comes:
                within(came.count(False), 0, "late ones of 250")
            else:
                assert not any(came), f"{came.count(True)} of 250 came"
        tree.nodes[3].agent.signal(signal.SIGSTOP)
        assert not any(many(300, {"timeout", "unreachable"}))
        tree.nodes[3].agent.signal(signal.SIGCONT)
        check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())


def test_expected_is_who_was_there_at_the_start():
    """Hosts that leave or come while an answer is made change nothing in it."""
    with star_with_middle() as (tree, server, ledger):
        root, other = tree.root, tree.nodes[2]

        def meanwhile(change):
            server.play, before = late(0.8), server.asked
            with ThreadPoolExecutor(1) as pool:
                reply = pool.submit(root.ask, **COUNTER)
                wait_until(lambda: server.asked > before, 5, "it is asked")
                change()
                server.play = None
                return reply.result()

        def known(n):
            status = root.get("/api/v1/status").json()["data"]
            return status["overlay"]["hosts_expected"] == n

        def leave():
            path = f"/api/v1/overlay/children/{other.address}"
            assert request(root.host, root.address, "DELETE",
                           path).status == 204
            wait_until(lambda: known(3), 5, "it left")

        def come():
            assert add(root, other.address)[0] == 200
            wait_until(lambda: known(4), 5, "it came")

        check_answer(meanwhile(leave), ledger, set(), set())
        three = {a: n for a, n in ledger.items() if a != other.address}
        wait_until(lambda: root.ask(**COUNTER).complete, 10, "a tree of three")
        wait_until(lambda: other.get("/api/v1/overlay").json()["data"]["parent"]
                   is None, 10, "it is a root again")
        check_answer(meanwhile(come), three, set(), set())


def test_t52_spine():
    """An agent that is silent deep down hides what is below it alone."""
    with Tree({0: [1, 5], 1: [2, 6], 2: [3, 7], 3: [4, 8]}) as tree:
        configure(tree)
        ping_all(tree.nodes[:2])
        ledger = ledger_of(tree.nodes, **COUNTER)
        for i in (4, 3, 2, 1):
            gone = {tree.nodes[k].address for k in tree.below(i)}
            for budget in (1000, 250):
                tree.wait_complete(**COUNTER)
                tree.nodes[i].agent.signal(signal.SIGSTOP)
                reply = ask(tree.root.host, tree.root.address, budget,
                            **COUNTER)
                tree.nodes[i].agent.signal(signal.SIGCONT)
                check_answer(reply, ledger, gone, {"timeout", "behind"})
                assert set(reply.missing) == gone
                assert reply.seconds < budget / 1000 + 0.1


def test_asked_again():
    """One answer per question and parent; loops and strangers are refused."""
    with star_with_middle() as (tree, server, ledger):
        last = tree.nodes[3]
        assert tree.root.ask(**COUNTER).complete
        headers, body = server.last

        def again(body=body, **changes):
            h = {**headers, **{k.replace("_", "-"): v
                               for k, v in changes.items()}}
            text = body if isinstance(body, str) else json.dumps(body)
            return request(last.host, last.address + ":8000", "POST",
                           "/api/v1/peer/ask", text, h)

        # the same: the kept answer, also when more was counted meanwhile
        first = again().json()
        assert first["part"]["tot"]["pkt"] == ledger[last.address]
        tree.nodes[1].host.ping(last.address, 3, 0.01)
        wait_until(lambda: request(
            last.host, last.address + ":8000", "POST", "/",
            "type=query counter&proto=icmp&scope=host",
            {"Content-Type": "application/x-www-form-urlencoded"})
            .json()[0] == ledger[last.address] + 3, 5, "more is counted")
        assert again().json() == first
        other = {**body, "query": "ab" * 16}
        assert again(other).json()["part"]["tot"]["pkt"] == \
            ledger[last.address] + 3
        assert again(X_Linnet_Lease="1.0000000000000000.1").status == 409
        assert again(X_Linnet_Lease="").status == 409
        node_id = request(last.host, last.address + ":8000", "GET",
                          "/api/v1/status").json()["data"]["node_id"]
        assert again(X_Linnet_Via=node_id).status == 508
        assert again(X_Linnet_Via=",".join(["ab" * 16] * 17)).status == 508
        assert again({**other, "message": "of_later"}).status == 501
        assert again("{").status == 400
        for deadline in ("0", "-1", "abc", "999999"):
            assert again({**body, "query": "cd" * 16},
                         X_Linnet_Deadline=deadline).status in (400, 422)
        unknown = again({**other, "task_hash": "00" * 8}).json()
        assert unknown["part"] is None
        assert unknown["coverage"]["missing"] == [[node_id, "unknown_task",
                                                   True]]  # it alone



# ---- tasks ----

def test_tasks_follow():
    """A child that was away gets what it missed, and loses what is gone."""
    with Tree(STAR) as tree:
        query = {"type": "query counter", "interface": "INPUT"}
        configure(tree, "icmp")
        tree.nodes[2].agent.kill()
        tree.nodes[3].agent.kill()
        configure(tree, "udp")
        r = tree.root.ask(type="config sketch", interface="INPUT")
        assert r.answered == (2, 4)
        doc = tree.root.get("/api/v1/tasks").json()["data"]
        icmp = next(t for t in doc if t["filter"].get("proto") == "icmp")
        r = request(tree.root.host, tree.root.address, "DELETE",
                    f"/api/v1/tasks/{icmp['id']}")
        assert r.status == 204
        for i in (2, 3):
            tree.nodes[i].start()
        tree.wait_complete(**query, proto="udp")
        for node in tree.nodes:
            wait_until(lambda: node.ask(**query, proto="icmp", scope="host")
                       .status == 400, 5, "deleted everywhere")
        # the root restarts: everything is as before
        tree.root.agent.stop()
        tree.root.start()
        tree.wait_complete(**query, proto="udp")
        assert tree.root.ask(type="config sketch", interface="INPUT").text == "1"


def test_what_makes_room_is_chosen_once():
    """A list of sketches that go travels to the last host."""
    with Tree({0: [1], 1: [2]}) as tree:
        configure(tree)
        tree.wait_complete(**COUNTER)
        with middle(tree.nodes[1]) as one, middle(tree.nodes[2]) as two:
            tree.wait_complete(**COUNTER)
            there = tree.root.get("/api/v1/tasks").json()["data"][0]["id"]
            one.change = lambda body: {**body, "evict": ["ab" * 8, there]}
            two.puts.clear()
            configure(tree, "udp")
            one.change = None
            assert ["ab" * 8, there] in [put["evict"] for put in two.puts]
            # the root still has it: it is back with the next beats
            tree.wait_complete(**COUNTER)


def test_configured_again_for_one_host():
    """scope=host stays there; what no host confirms changes nothing."""
    with Tree({0: [1]}) as tree:
        root, child = tree.nodes
        sketch = root.ask(type="config sketch", proto="icmp").text
        counter = {"sketch_id": sketch, "counter_key_type": "src"}
        config = {"type": "config sketch counter", **counter}
        hitters = {"type": "query heavy hitters", **counter}
        assert root.ask(**config).answered == (2, 2)
        tree.wait_complete(**hitters)
        ping_all(tree.nodes, 10)
        assert set(root.ask(**hitters).json()) == {n.address
                                                   for n in tree.nodes}
        with middle(child) as server:
            tree.wait_complete(**hitters)
            server.puts.clear()
            r = root.ask(**config, hitter_threshold=1, scope="host")
            assert (r.status, r.answered) == (200, (1, 1))
            assert root.ask(**hitters).json() == {}
            r = root.ask(**config, scope="host")
            assert (r.status, r.answered) == (200, (1, 1))
            assert root.ask(**hitters).json() == {}
            assert not server.puts
        # nobody is there
        child.agent.kill()
        root.monitor.kill()
        wait_until(lambda: root.get("/api/v1/status").json()["data"]
                   ["monitor"]["state"] == "absent", 5, "no monitor")
        r = root.ask(**config, hitter_threshold=0)
        assert (r.status, r.text) == (503, "error: no host answered")
        root.monitor = root.host.monitor(instance="lab")
        child.start()
        tree.wait_complete(**hitters)
        ping_all(tree.nodes, 10)
        assert root.ask(**hitters).json() == {}


# ---- add leaf agent ----

def add(node, address):
    r = node.ask(type="add leaf agent", agent_addr=address)
    return r.status, r.text


def leaves(node):
    return node.ask(type="query leaf agents").json()


def test_add_leaf_rules():
    with Tree({0: [1], 1: [2]}) as tree:
        root, middle, leaf = tree.nodes
        refused = (400, "error: refused: ")
        for address in ("0.0.0.0", "255.255.255.255", "224.0.0.1",
                        "169.254.169.254", "127.0.0.1", "[::1]:8000",
                        "[fe80::1]", "[ff02::1]", "::",
                        "::ffff:169.254.169.254", root.address):
            status, text = add(root, address)
            assert (status, text[:16]) == refused, (address, text)
        for address in ("host.example", "2852039166", "0xa9fea9fe",
                        "010.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "1.2.3"):
            status, text = add(root, address)
            assert status == 400, (address, text)
            assert text.startswith("error: bad value: agent_addr"), text
        # ancestors, at every distance; a child of somebody else
        assert add(middle, root.address)[1].startswith("error: refused: an")
        assert add(leaf, root.address)[1].startswith("error: refused: ")
        assert add(leaf, middle.address)[1].startswith("error: refused: an")
        assert add(root, leaf.address) == (
            400, "error: refused: has another parent")
        # again is the same
        assert add(root, middle.address) == (200, "leaf agent added")
        assert leaves(root) == [middle.address]
        assert leaves(leaf) == []
        tree.wait_rows()


def test_add_not_running_and_restart():
    with Lab(3) as lab:
        lab.dir.chmod(0o711)
        nodes = [Node(h, [], monitor=False) for h in lab.hosts]
        root, later, second = nodes
        root.start()
        assert add(root, later.address) == (200, "leaf agent added")
        r = root.ask(type="config sketch", interface="INPUT")
        assert r.status == 503 and r.answered == (0, 2), r.text
        later.start()
        members = "/api/v1/overlay/members"

        def states():
            doc = root.get("/api/v1/overlay").json()["data"]["children"]
            return [c["state"] for c in doc]
        wait_until(lambda: states() == ["up"], 10, "the child joins")
        # top-down and bottom-up: a root with a child becomes a child
        assert add(later, second.address) == (200, "leaf agent added")
        second.start()
        wait_until(lambda: len(root.get(members).json()["data"]) == 3, 15,
                   "three members at the root")
        # the children of a restarted agent come back
        root.agent.stop()
        root.start()
        wait_until(lambda: len(root.get(members).json()["data"]) == 3, 15,
                   "three members after a restart")
        assert leaves(root) == [later.address]


def test_only_configured_parents():
    with Lab(3) as lab:
        lab.dir.chmod(0o711)
        a, b, child = (Node(h, [], monitor=False) for h in lab.hosts)
        child.args = ["--parent", b.address]
        for node in (a, b, child):
            node.start()
        assert add(a, child.address) == (400, "error: refused: not its parent")
        assert add(b, child.address) == (200, "leaf agent added")
        assert leaves(b) == [child.address] and leaves(a) == []


def test_two_roots_invite_each_other():
    with Lab(2) as lab:
        lab.dir.chmod(0o711)
        a, b = (Node(h, [], monitor=False) for h in lab.hosts)
        a.children, b.children = [b.address], [a.address]
        a.start()
        b.start()

        def one_tree():
            status = [n.get("/api/v1/status").json()["data"]["overlay"]
                      for n in (a, b)]
            return sorted(s["hosts_expected"] for s in status) == [1, 2]
        wait_until(one_tree, 20, "one of them gives way")


def test_sixty_four_children():
    with Lab(1) as lab:
        lab.dir.chmod(0o711)
        lab.hosts[0].run(["ip", "link", "add", "none0", "type", "veth", "peer",
                          "name", "none1"])
        lab.hosts[0].run(["ip", "addr", "add", "10.77.0.1/16", "dev", "none0"])
        lab.hosts[0].run(["ip", "link", "set", "none0", "up"])
        node = Node(lab.hosts[0], [], monitor=False)
        node.start()
        with ThreadPoolExecutor(12) as pool:
            added = list(pool.map(lambda i: add(node, f"10.77.1.{i}"),
                                  range(1, 65)))
        assert set(added) == {(200, "leaf agent added")}
        assert len(leaves(node)) == 64
        assert add(node, "10.77.1.65") == (507,
                                           "error: limit reached: children")


# ---- tokens ----

def test_t49_no_token_to_strangers():
    """Whoever cannot prove that it knows the token sees hello alone."""
    with Lab(3) as lab:
        lab.dir.chmod(0o711)
        args = token_files(lab, "fleet", "peer", "f" * 43)
        nodes = [Node(h, [], monitor=False, args=args) for h in lab.hosts]
        root, friend, other = nodes
        boss = {"Authorization": "Bearer boss",
                "Content-Type": "application/json"}
        path = "/api/v1/overlay/children"
        with stranger(other, {"node_id": "ab" * 16, "overlay": "linnet",
                              "proof": "00" * 32}) as server:
            for n in (root, friend):
                n.args = args
                n.start()
            r = root.post(path, {"host": other.address}, headers=boss)
            assert r.status == 422 and "proof" in r.text, r.text
            r = root.post(path, {"host": friend.address}, headers=boss)
            assert r.status == 201, r.text
        assert set(server.seen) == {("/api/v1/peer/hello", False)}

        def up():
            r = root.get("/api/v1/overlay", headers=boss).json()
            return [c["state"] for c in r["data"]["children"]] == ["up"]
        wait_until(up, 10, "the friend joins")
        r = friend.post("/api/v1/peer/invite", {}, headers={})
        assert r.status == 401


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

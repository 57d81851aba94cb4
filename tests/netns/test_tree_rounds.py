# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions of two rounds: who is lost, late or moved between them."""
import json

from lab import best_of_3, wait_until
from middle import late, middle
from test_tree import add
from traffic import icmp_packet, spray
from tree import Tree, ping_all, request

ODD = "10.66.0.1"


def configure_hitters(tree):
    """A counter of packets by source and its task; pings; what it counted.

    One small key is left out of the first round, so that there is a second.
    """
    sketch = tree.root.ask(type="config sketch", proto="icmp").text
    counter = {"sketch_id": sketch, "counter_key_type": "src"}
    assert tree.root.ask(type="config sketch counter", **counter).status == 200
    share = 0.7 / len(tree.nodes)
    query = {"type": "query heavy hitters", "hitter_threshold": share,
             **counter}
    tree.wait_complete(**query)
    ping_all(tree.nodes, 6)
    for a, b in zip(tree.nodes, tree.nodes[1:] + tree.nodes[:1]):
        spray(a.host, [icmp_packet(ODD, b.address)], 100)
    whole = tree.wait_complete(**query).json()
    assert set(whole) == {n.address for n in tree.nodes}
    task = next(t["id"] for t in tree.root.get("/api/v1/tasks").json()["data"]
                if t["sketch_id"] == int(sketch))
    wait_until(lambda: tree.root.get(
        f"/api/v1/tasks/{task}/estimate?key={ODD}").json()["data"][0][
            "estimate"] == len(tree.nodes), 5, "the small one is counted")
    return query, f"/api/v1/tasks/{task}/top?n=100&threshold={share}", whole


def no_second_round(handler, reply):
    if handler.server.last[1]["round"] == 1:
        handler.reply(reply.status, reply.text.encode())
    else:
        handler.close_connection = True


def check_partial(tree, query, path, whole, partial):
    """What they gave in the first round is in; only the rest is a bound."""
    reply = tree.root.ask(**query)
    assert (reply.status, reply.json()) == (200, whole), reply.text
    assert not reply.complete
    assert reply.missing == {n.address: "partial" for n in partial}
    n = len(tree.nodes)
    assert reply.answered == (n - len(partial), n)
    rest = dict.fromkeys(whole, 0)
    for node in tree.nodes:
        if node not in partial:
            for key, value in node.ask(**{**query, "scope": "host"}).json() \
                                  .items():
                rest[key] += value
    answer = tree.root.get(path).json()
    found = {i["key"]: (i["estimate"], i["lower"], i["upper"])
             for i in answer["data"]}
    assert found == {k: (v, rest[k], None) for k, v in whole.items()}
    assert answer["meta"]["recall"] == "best_effort"


def test_lost_after_the_first_round():
    with Tree({0: [1, 4], 1: [2, 3]}) as tree:
        query, path, whole = configure_hitters(tree)
        one, two = tree.nodes[1:3]
        for node, partial in ((tree.nodes[4], [4]), (two, [2]),
                              (one, [1, 2, 3])):
            with middle(node) as server:
                tree.wait_complete(**query)
                server.play = no_second_round
                check_partial(tree, query, path, whole,
                              [tree.nodes[i] for i in partial])
                server.play = None
                assert tree.wait_complete(**query).json() == whole
            # back at its own port
            node.agent.stop()
            node.start()
            tree.wait_complete(**query)


def test_nobody_answers_the_second_round():
    with Tree({0: [1, 2]}) as tree:
        query, path, _ = configure_hitters(tree)
        root, one, two = tree.nodes
        with middle(one) as first, middle(two) as second:
            tree.wait_complete(**query)
            root.monitor.stop()
            wait_until(lambda: root.ask(**query).missing ==
                       {root.address: "monitor_down"}, 5, "no monitor")
            own = root.ask(**query).json()
            assert own
            first.play = second.play = no_second_round
            reply = root.ask(**query)
            assert (reply.status, reply.json()) == (200, own)
            assert reply.answered == (0, 3)
            assert reply.missing == {root.address: "monitor_down",
                                     one.address: "partial",
                                     two.address: "partial"}
            assert root.get(path).status == 200
            first.play = second.play = None


def test_no_second_round_without_need():
    """Where the first has said it all, a host is asked once."""
    with Tree({0: [1], 1: [2]}) as tree:
        query, path, _ = configure_hitters(tree)
        path, inexact = path.split("&")[0], path

        def asked():
            return [n.get("/api/v1/status").json()["data"]["overlay"][
                "questions"] for n in tree.nodes]

        def answer(path):
            doc = tree.root.get(path).json()
            assert doc["meta"]["coverage"]["complete"]
            return {i["key"]: (i["lower"], i["estimate"], i["upper"])
                    for i in doc["data"]}, doc["meta"]
        before = asked()
        exact, meta = answer(path)
        assert meta["recall"] == "certain" and meta["error"]["max"] == 0
        assert asked() == [0, before[1] + 1, before[2] + 1]
        assert exact.pop(ODD) == (3, 3, 3)
        # with a bound on some of them they are two, and say the same
        assert answer(inexact)[0] == exact
        assert asked() == [0, before[1] + 3, before[2] + 3]
        assert tree.root.ask(**{**query, "hitter_threshold": 0}).json() == {
            ODD: 3, **{k: v for k, (_, v, _) in exact.items()}}
        assert asked() == [0, before[1] + 4, before[2] + 4]


@best_of_3
def test_first_round_has_two_thirds():
    """All that is large comes back in it."""
    with Tree({0: [1]}) as tree:
        _, path, _ = configure_hitters(tree)
        path = path.split("&")[0]
        with middle(tree.nodes[1]) as server:
            wait_until(lambda: tree.root.get(path).json()["meta"]["coverage"][
                "complete"], 15, "complete answers")
            server.play = late(2.1)
            doc = tree.root.get(path + "&timeout=4s").json()
            assert doc["meta"]["coverage"]["complete"], doc["meta"]
            server.play = None


def test_second_round_under_another_lease():
    """Who kept what this host gave first may count it: nobody else does."""
    with Tree({0: [1]}) as tree:
        query, _, _ = configure_hitters(tree)
        root, child = tree.nodes
        with middle(child) as server:
            tree.wait_complete(**query)
            server.asks.clear()
            root.ask(**query)
            (old, first), (_, second) = server.asks

            def send(headers, body):
                return request(child.host, child.address + ":8000", "POST",
                               "/api/v1/peer/ask",
                               json.dumps({**body, "query": "ab" * 16}),
                               headers)

            assert send(old, first).status == 200
            path = f"/api/v1/overlay/children/{child.address}"
            assert request(root.host, root.address, "DELETE",
                           path).status == 204
            wait_until(lambda: add(root, child.address)[0] == 200, 10, "added")
            tree.wait_complete(**query)
            new = server.last[0]
            assert new["X-Linnet-Lease"] != old["X-Linnet-Lease"]
            assert send(new, second).status == 409
            assert send(new, first).status == 409

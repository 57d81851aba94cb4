# SPDX-License-Identifier: GPL-2.0-or-later
"""Children that lie: refused with a reason, or one can tell who said it."""
import calendar
import json
import math
import socket
import struct
import time

from lab import wait_until
from middle import coverage, middle, mutate, part, star_with_middle, totals
from tree import (COUNTER, Tree, check_answer, configure, ledger_of,
                  memory_kib, ping_all, request)


# ---- T54: what cannot be ----

def endless(handler, _reply):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def cut(handler, reply):
    handler.reply(200, reply.text.encode()[:-20])


def redirect(handler, _reply):
    handler.reply(302, b"{}", {"Location": "http://10.77.0.1:8000/"})


def headers(count, size):
    def play(handler, reply):
        handler.reply(200, reply.text.encode(),
                      {f"X-{i}": "x" * size for i in range(count)})
    return play


def gibibyte(handler, _reply):
    handler.send_response(200)
    handler.send_header("Content-Length", str(2**30))
    handler.end_headers()
    for _ in range(2**14):
        handler.wfile.write(b" " * 65536)


def endless_chunks(handler, _reply):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def closed(handler, _reply):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.close_connection = True


def reset(handler, _reply):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def web_page(handler, _reply):
    handler.reply(200, b"<!DOCTYPE html><html><body>502</body></html>",
                  {"Content-Type": "text/html"})


LIES = {
    "negative": totals(pkt=-5),
    "above 2^63": totals(pkt=2**63 + 1),
    "above 2^64": totals(pkt=2**64 + 5),
    "a real number": totals(pkt=1.5),
    "text": totals(pkt="7"),
    "more than links carry": totals(byte=2**62),
    "wrong task": part(task="00000000000000aa"),
    "wrong generation": part(gen=77),
    "wrong seed": part(fp="0123456789abcdef"),
    "wrong kind": part(kind="hll"),
    "wrong key": part(key="src"),
    "no part": mutate(lambda v: v.update(part=None)),
    "too many hosts": coverage(answered=50),
    "2^32 hosts": coverage(answered=2**32 + 1),
    "negative loss": coverage(missed=[-1, 0], matched=[-1, 0]),
    "more received than matched": coverage(received=[2**40, 2**40]),
    "no epoch": coverage(epoch_max="x"),
    "an epoch to come": coverage(epoch_max="9.ffffffffffffffff.99"),
    "an epoch before its own": coverage(epoch_max="1.0000000000000000.1"),
    "unknown reason": coverage(missing=[["00" * 16, "nonsense"]]),
    "truncated": cut,
    "endless": endless,
    "redirect": redirect,
    "deep": mutate(lambda v: "[" * 100000 + "]" * 100000),
    "twice": mutate(lambda v: '{"part": null, ' + json.dumps(v)[1:]),
    "not an object": mutate(lambda v: "[]"),
    "empty": mutate(lambda v: ""),
    "not a number": totals(pkt=math.nan),
    "infinite": totals(pkt=math.inf),
    "headers": headers(40, 1000),
    "100,000 headers": headers(100000, 1),
    "a GiB": gibibyte,
    "endless chunks": endless_chunks,
    "closed": closed,
    "reset": reset,
    "a web page": web_page,
}


# each of the others makes the child `rejected`
REASONS = {"wrong task": "incompatible", "wrong generation": "incompatible",
           "wrong seed": "incompatible", "wrong key": "incompatible",
           "reset": "unreachable"}
LINK_BYTES = 400 * 10**9 // 8  # a second, at most
CLOCK_S = 60  # for which it is believed beside the age of the task


def test_lying_child():
    with star_with_middle() as (tree, server, ledger):
        gone = {tree.nodes[3].address}
        agent = tree.root.agent
        rss = memory_kib(agent, "VmRSS")
        # what a child may speak of is not known at once
        server.play = LIES["too many hosts"]
        wait_until(lambda: set(tree.root.ask(**COUNTER).missing) == gone, 15,
                   "more hosts than it has")
        for name, play in LIES.items():
            server.play = play
            before = server.asked
            reply = tree.root.ask(**COUNTER)
            assert server.asked > before, name
            assert set(reply.missing) == gone, (name, reply.missing)
            check_answer(reply, ledger, gone,
                         {REASONS.get(name, "rejected")})
            assert reply.seconds < 2.1, name
            server.play = None
            # nothing of it stays: the next answer is whole
            check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())
        assert agent.alive()
        assert memory_kib(agent, "VmHWM") < rss + 8 * 1024


def test_t55_more_than_links_carry():
    """Ten times of it is seen once the task is older than a ninth of what
    clocks may be off."""
    with star_with_middle() as (tree, server, ledger):
        task = tree.root.get("/api/v1/tasks").json()["data"][0]
        born = calendar.timegm(time.strptime(task["created"][:19],
                                             "%Y-%m-%dT%H:%M:%S"))
        wait_until(lambda: time.time() - born > CLOCK_S / 9 + 1.5, 15,
                   "the task is old enough")
        age = time.time() - born - 1    # "created" has fractions
        server.play = totals(byte=int(10 * age * LINK_BYTES))
        check_answer(tree.root.ask(**COUNTER), ledger,
                     {tree.nodes[3].address}, {"rejected"})
        server.play = totals(byte=int(0.9 * (CLOCK_S + age) * LINK_BYTES))
        assert tree.root.ask(**COUNTER).answered == (4, 4), "can be"
        server.play = None


def test_sibling_claimed_and_digest():
    """A plausible lie about who answered is never called complete."""
    with star_with_middle() as (tree, server, _ledger):
        task = tree.root.post("/api/v1/tasks", {
            "filter": {"direction": "in"}, "key": "src", "sketches": ["hll"]})
        path = f"/api/v1/tasks/{task.json()['data']['id']}/distinct"
        wait_until(lambda: tree.root.get(path).json()["meta"]["coverage"][
            "complete"], 15, "all have it")
        assert tree.root.get(path).json()["data"]["upper"] is not None
        server.play = coverage(digest="0123456789abcdef")
        reply = tree.root.ask(**COUNTER)
        assert reply.answered == (4, 4) and not reply.complete
        # nor is known what there is at most
        assert tree.root.get(path).json()["data"]["upper"] is None
        server.play = None


def test_epoch_of_a_child():
    """Whatever it says, the others can move and restart after that."""
    with Tree({0: [1, 2], 1: [3]}) as tree:
        configure(tree)
        ping_all(tree.nodes)
        tree.wait_complete(**COUNTER)
        root, mover = tree.root, tree.nodes[1]
        with middle(tree.nodes[2]) as server:
            tree.wait_complete(**COUNTER)
            for text in ("72057594037927936.ffffffffffffffff.7",
                         f"{2**64 - 1}.00000000000000ff.1"):
                said = []

                def lie(value, text=text, said=said):
                    value["epoch"] = text
                    said.append(text)
                server.beat = lie
                wait_until(lambda: len(said) > 1, 10, "it lies twice")
            server.beat = None
            r = request(root.host, root.address, "POST",
                        "/api/v1/peer/beat-please",
                        json.dumps({"node_id": "00" * 16}),
                        {"Content-Type": "application/json",
                         "X-Linnet-Epoch": "72057594037927936.ff" + "0" * 14
                         + ".1"})
            assert r.status == 409, r.text
            tree.wait_complete(**COUNTER)
            for node in tree.nodes:
                term = node.get("/api/v1/overlay").json()["data"]["epoch_text"]
                assert int(term.split(".")[0]) < 100, term
            for node in (mover, root):
                node.agent.kill()
                node.start()
                tree.wait_complete(**COUNTER)


# ---- who is below whom ----

def speak_of(server, node, up):
    """It has a younger one of this id below it, elsewhere; or that has left."""
    status = node.get("/api/v1/status").json()["data"]
    server.hash = 0xaa

    def beat(value):
        value["rows_hash"] = f"{server.hash:016x}"

    def rows(value):
        beat(value)
        value["rows"].append(
            [status["node_id"], value["rows"][0][0],
             f"{server.node.address}:8000", status["incarnation"] + 1, None, 0,
             up, not up])
        server.asked += 1
    server.rows, server.beat = rows, beat


def wait_taken(server):
    """Rows are fetched again only when those of before have been taken."""
    server.hash, served = server.hash + 1, server.asked
    wait_until(lambda: server.asked > served, 15, "rows are fetched again")


def test_rows_of_others():
    """A child neither takes a sibling's identity nor counts it out."""
    with star_with_middle() as (tree, server, ledger):
        root, live, lost = tree.root, tree.nodes[1], tree.nodes[2]
        ids = [n.get("/api/v1/status").json()["data"]["node_id"]
               for n in tree.nodes]
        speak_of(server, live, True)
        wait_until(lambda: not root.get("/api/v1/overlay").json()["data"][
            "settled"], 10, "two have one id")
        reply = root.ask(**COUNTER)
        assert reply.answered == (4, 4) and not reply.complete
        assert reply.json()[0] == sum(ledger.values())
        server.rows = server.beat = None
        check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())
        assert [n.get("/api/v1/status").json()["data"]["node_id"]
                for n in tree.nodes] == ids

        server.asked = 0
        speak_of(server, lost, False)
        lost.agent.kill()
        gone = {lost.address}
        wait_until(lambda: set(root.ask(**COUNTER).missing) == gone
                   and server.asked, 15, "it is lost, and said to have left")
        wait_taken(server)
        for _ in range(10):
            reply = root.ask(**COUNTER)
            assert reply.answered == (3, 4) and not reply.complete
        check_answer(reply, ledger, gone, {"unreachable"})
        server.rows = server.beat = None
        reply = root.ask(**COUNTER)
        assert reply.answered == (3, 4) and not reply.complete


def test_rows_of_many():
    """A leaf that tells of 2^17 hosts costs its parent little, and has a
    reason; without them it counts again."""
    with star_with_middle() as (tree, server, ledger):
        agent, liar = tree.root.agent, tree.nodes[3].address
        me = tree.nodes[3].get("/api/v1/status").json()["data"]["node_id"]
        rss = memory_kib(agent, "VmRSS")

        def beat(value):
            value["rows_hash"] = "00000000000000aa"

        def rows(value):
            own = value.get("rows", [])[:1]  # there is none behind it
            first = 0 if own else server.asked
            server.asked = first + 4096
            return {
                "rows_hash": "00000000000000aa", "offset": first,
                "next": server.asked % 2**17, "rows": own + [
                    [f"{i:032x}", me, f"10.9.{i >> 8 & 255}.{i & 255}:"
                     f"{8000 + (i >> 16)}", 5, None, 0, True]
                    for i in range(first + len(own), server.asked)]}

        server.rows, server.beat = rows, beat
        wait_until(lambda: tree.root.ask(**COUNTER).missing ==
                   {liar: "rejected"}, 15, "it is rejected")
        check_answer(tree.root.ask(**COUNTER), ledger, {liar}, {"rejected"})
        server.rows = server.beat = None
        check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())
        # the log says each beginning and each end
        server.rows, server.beat = rows, beat
        wait_until(lambda: tree.root.ask(**COUNTER).missing ==
                   {liar: "rejected"}, 15, "it is rejected again")
        server.rows = server.beat = None
        check_answer(tree.wait_complete(**COUNTER), ledger, set(), set())
        log = agent.log()
        assert log.count("more hosts than are believed: rejected") == 2
        assert log.count("is rejected no more") == 2
        assert memory_kib(agent, "VmHWM") < rss + 8 * 1024


# ---- T55b: lies that look right ----

def siphash(key, data):
    """SipHash-2-4"""
    mask = 2**64 - 1
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rot(x, n):
        return (x << n | x >> (64 - n)) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & mask
            v[2] = (v[2] + v[3]) & mask
            v[1], v[3] = rot(v[1], 13) ^ v[0], rot(v[3], 16) ^ v[2]
            v[0] = rot(v[0], 32)
            v[2] = (v[2] + v[1]) & mask
            v[0] = (v[0] + v[3]) & mask
            v[1], v[3] = rot(v[1], 17) ^ v[2], rot(v[3], 21) ^ v[0]
            v[2] = rot(v[2], 32)

    data += bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for i in range(0, len(data), 8):
        m = int.from_bytes(data[i:i + 8], "little")
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 0xff
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def digest_of(node):
    """As coverage says that this host answered."""
    name = b"linnet"
    key = b"".join(siphash(bytes([i]) * 16, name).to_bytes(8, "little")
                   for i in (1, 2))
    status = node.get("/api/v1/status").json()["data"]
    return siphash(key, bytes.fromhex(status["node_id"]))


def answer_of(tree, path):
    """(document, host -> packets that it or its branch gave)"""
    doc = tree.root.get(path + "?contributors=children").json()
    gave = {c["host"]: c["packets"] for c in doc["meta"]["contributors"]
            if c["reason"] is None}
    return doc, gave


def twice(value):
    """All that it says of itself, two times."""
    tot, cov = value["part"]["tot"], value["coverage"]
    tot.update({k: 2 * v for k, v in tot.items()})
    for name in ("matched", "received", "missed"):
        cov[name] = [2 * v for v in cov[name]]
    cov["answered"] *= 2
    cov["digest"] = f"{2 * int(cov['digest'], 16) % 2**64:016x}"


def test_t55b_lies_that_look_right():
    with Tree({0: [1, 2, 3], 3: [4, 5]}) as tree:
        configure(tree)
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        tree.wait_complete(**COUNTER)
        task = tree.root.get("/api/v1/tasks").json()["data"][0]["id"]
        path = f"/api/v1/tasks/{task}/totals"
        liar = tree.nodes[3].address
        branch = sum(ledger[tree.nodes[i].address] for i in (3, 4, 5))
        rest = {tree.nodes[i].address: ledger[tree.nodes[i].address]
                for i in (0, 1, 2)}
        sibling, own = digest_of(tree.nodes[1]), digest_of(tree.nodes[5])

        def of_sibling(value):
            digest = int(value["coverage"]["digest"], 16)
            value["coverage"]["digest"] = \
                f"{(digest - own + sibling) % 2**64:016x}"

        def one_twice(value):
            """The right number of hosts, one of them two times."""
            digest = int(value["coverage"]["digest"], 16)
            last = digest_of(tree.nodes[4])
            value["coverage"]["digest"] = \
                f"{(digest - own + last) % 2**64:016x}"

        lies = {  # what it says -> it is rejected
            "a host more": (coverage(answered=4), True),
            "a host less": (coverage(answered=2), False),
            "no host": (coverage(answered=0, digest="00" * 8), True),
            "wrong digest": (coverage(digest="0123456789abcdef"), False),
            "a sibling's row": (mutate(of_sibling), False),
            "one host twice": (mutate(one_twice), False),
            "itself twice": (mutate(twice), True),
            "one key more than all": (totals(pkt=2**63 + 1), True),
        }
        doc, gave = answer_of(tree, path)
        assert doc["meta"]["coverage"]["complete"]
        assert gave == {**rest, liar: branch}
        with middle(tree.nodes[3]) as server:
            tree.wait_complete(**COUNTER)
            for name, (play, rejected) in lies.items():
                server.play = play
                # what a new child has below it is known after some seconds
                if rejected:
                    wait_until(lambda: liar not in answer_of(tree, path)[1],
                               15, name)
                doc, gave = answer_of(tree, path)
                assert not doc["meta"]["coverage"]["complete"], name
                assert (liar in gave) != rejected, (name, doc)
                # what the others gave is as it was, and all there is
                assert {a: n for a, n in gave.items() if a != liar} == rest
                assert sum(gave.values()) == doc["data"]["packets"], name
                reasons = {m["host"]: m["reason"]
                           for m in doc["meta"]["coverage"]["missing"]}
                assert (reasons.get(liar) == "rejected") == rejected, name
            # one that nothing contradicts has a name at least
            server.play = totals(pkt=branch + 1000)
            doc, gave = answer_of(tree, path)
            assert doc["meta"]["coverage"]["complete"]
            assert gave == {**rest, liar: branch + 1000}
            assert doc["data"]["packets"] == sum(gave.values())
            server.play = None

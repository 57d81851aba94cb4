# SPDX-License-Identifier: GPL-2.0-or-later
"""How agents come together: by hand in any order, by list, by joining; what
is refused; who takes over.  Agents alone, without monitors."""
import contextlib
import os
import re
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import AGENT_UID, BUILD, Lab, wait_until
from tree import Node, ask, request, token_files

JSON = {"Content-Type": "application/json"}
LONG = os.environ.get("LINNET_TEST_LONG")  # a minute more


class Place:
    """An agent on a loopback address of the one host of a lab."""

    def __init__(self, host, n, *args):
        self.host, self.n, self.args = host, n, args
        self.address = f"127.2.{n // 250}.{n % 250 + 1}"
        self.state_dir = host.lab.dir / f"state-{n}"
        self.state_dir.mkdir(mode=0o700)
        os.chown(self.state_dir, AGENT_UID, AGENT_UID)
        self.agent = None

    def start(self, wait=True):
        self.agent = self.host.start(
            [BUILD / "agent/linnet-agent", "--instance", f"p{self.n}",
             "--insecure", "--listen", self.address, "--user", AGENT_UID,
             "--state-dir", self.state_dir, *self.args], ready=True)
        return self.agent.wait_ready() if wait else self.agent

    def overlay(self):
        r = request(self.host, self.address, "GET", "/api/v1/overlay")
        assert r.status == 200, r.text
        return r.json()["data"]

    def members(self):
        r = request(self.host, self.address, "GET",
                    "/api/v1/overlay/members?limit=1000")
        assert r.status == 200, r.text
        return r.json()["data"]

    def add(self, other):
        r = ask(self.host, self.address, type="add leaf agent",
                agent_addr=other.address)
        return r.status, r.text

    def remove(self, other):
        return request(self.host, self.address, "DELETE",
                       f"/api/v1/overlay/children/{other.address}").status


@contextlib.contextmanager
def places(n, *args, start=True):
    with Lab(1) as lab:
        lab.dir.chmod(0o711)  # the agents are not root
        host, = lab.hosts
        all_of_them = [Place(host, i, *args) for i in range(n)]
        if start:
            for p in all_of_them:
                p.start(wait=False)
            for p in all_of_them:
                p.agent.wait_ready(20)
        yield all_of_them


def parents(some):
    """address -> parent's address or None, of those that run."""
    return {p.address: p.overlay()["parent"] for p in some}


def check_acyclic(some):
    """Nor does a question to all of them go round."""
    above = parents(some)
    for start in above:
        seen, at = set(), start
        while at is not None and at in above:
            assert at not in seen, above
            seen.add(at)
            at = above[at]
    for p in some:
        r = request(p.host, p.address, "GET", "/api/v1/overlay/agents")
        assert r.status == 200, r.text
        assert r.seconds < 2.1, "a question ends"
    return above


def up_at(place):
    """Addresses that this agent knows to be in its subtree, and up."""
    return {m["host"] for m in place.members() if m["state"] == "up"}


def wait_up(root, some, seconds=15):
    want = {p.address for p in some}
    wait_until(lambda: up_at(root) == want, seconds,
               f"{len(want)} members at {root.address}")


# ---- T49b: who cannot prove anything sees hello alone ----

class Listener(threading.Thread):
    """Keeps all bytes that are sent to it; answers what it is told to."""

    def __init__(self, host, address, answer=b"", port=8000):
        super().__init__(daemon=True)
        self.answer, self.seen, self.stopped = answer, b"", False
        self.callers = set()
        self.server = host.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.bind((address, port))
        self.server.listen()
        self.server.settimeout(0.1)

    def run(self):
        while not self.stopped:
            with contextlib.suppress(OSError):
                connection, caller = self.server.accept()
                self.callers.add(caller[0])
                with connection:
                    connection.settimeout(0.3)
                    with contextlib.suppress(OSError):
                        self.seen += connection.recv(65536)
                        connection.sendall(self.answer)
                        self.seen += connection.recv(65536)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped = True
        self.join()
        self.server.close()


def paths(seen):
    return set(re.findall(rb"[A-Z]+ (\S+) HTTP/1\.1\r\n", seen))


@pytest.mark.parametrize("secure, answer", [
    (False, b""), (True, b"220 smtp.example ESMTP\r\n"),
    (True, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")])
def test_t49b_listener_hears_hello_alone(secure, answer):
    with Lab(2) as lab:
        lab.dir.chmod(0o711)
        root, other = (Node(h, [], monitor=False) for h in lab.hosts)
        headers = dict(JSON)
        if secure:
            root.args = token_files(lab, "fleet", "peer", "f" * 43)
            headers["Authorization"] = "Bearer boss"
        root.start()
        with Listener(other.host, other.address, answer) as listener:
            r = root.post("/api/v1/overlay/children", {"host": other.address},
                          headers=headers)
            assert r.status == 201, r.text
            # a query meanwhile does not go there either
            root.ask(type="config counter", interface="INPUT", proto="udp")
            wait_until(lambda: listener.seen.count(b"hello") > 1, 10,
                       "it is asked again")
        assert paths(listener.seen) == {b"/api/v1/peer/hello"}
        assert b"uthorization" not in listener.seen
        assert b"f" * 43 not in listener.seen


def test_t49b_no_loopback_for_who_asks_to_join():
    """A place is granted to who is found at its address; not looked for there
    by an agent that does not listen there itself."""
    with Lab(2) as lab:
        lab.dir.chmod(0o711)
        root, other = (Node(h, [], monitor=False) for h in lab.hosts)
        joining([root], [root], 16)
        root.start()
        wait_until(lambda: root.get("/api/v1/overlay").json()["data"]["role"]
                   == "root", 10, "a root")
        body = {"node_id": "11" * 16, "incarnation": 5, "overlay": "linnet",
                "hosts": 1, "height": 0, "nonce": "00000000000000d3"}
        with Listener(root.host, "127.0.0.1", port=9999) as inside, \
                Listener(other.host, other.address, port=9999) as outside:
            for address, status in (("127.0.0.1", 400), (other.address, 403)):
                r = root.post("/api/v1/peer/join",
                              {**body, "addr": [f"{address}:9999"]},
                              headers=JSON)
                assert r.status == status, r.text
            wait_until(lambda: b"peer/hello" in outside.seen, 5, "it calls")
            assert not inside.seen


# ---- who calls ----

@pytest.mark.parametrize("listen, to, caller", [
    (["127.2.0.1"], "127.2.0.2", "127.2.0.1"),
    (["127.2.0.1:8001", "127.2.0.1"], "127.2.0.2", "127.2.0.1"),
    (["127.2.0.1", "127.2.0.3"], "127.2.0.2", "127.0.0.1"),
    (["0.0.0.0"], "10.77.0.2", "10.77.0.1"),
    (["10.78.0.1"], "10.77.0.2", "10.78.0.1"),
    (["10.78.0.1", "127.2.0.1"], "10.77.0.2", "10.78.0.1"),
    (["127.2.0.1"], "10.77.0.2", "10.77.0.1"),
])
def test_calls_come_from_where_it_listens(listen, to, caller):
    """A host with many addresses is one for those that it calls."""
    with Lab(2) as lab:
        one, other = lab.hosts
        one.run(["ip", "addr", "add", "10.78.0.1/32", "dev", "lo"])
        other.run(["ip", "route", "add", "10.78.0.1", "via", one.ip4])
        with Listener(one if to.startswith("127.") else other, to) as listener:
            one.start([BUILD / "agent/linnet-agent", "--insecure", "--user",
                       AGENT_UID, "--child", to,
                       *(a for x in listen for a in ("--listen", x))],
                      ready=True).wait_ready()
            wait_until(lambda: listener.callers, 5, "it calls")
        assert listener.callers == {caller}


# ---- T57b: by hand, in any order ----

def test_t57b_top_down_and_bottom_up():
    with places(8) as p:
        for i in range(3):
            assert p[i].add(p[i + 1]) == (200, "leaf agent added")
        for i in reversed(range(4, 7)):
            assert p[i].add(p[i + 1]) == (200, "leaf agent added")
        wait_up(p[0], p[:4])
        wait_up(p[4], p[4:])
        # a whole tree moves below a leaf of another
        assert p[3].add(p[4]) == (200, "leaf agent added")
        wait_up(p[0], p)
        above = check_acyclic(p)
        assert [above[x.address] for x in p] == [
            None, *(x.address for x in p[:-1])]
        assert p[0].overlay()["hosts_expected"] == 8
        # refused: itself, the root, an ancestor, a child of another
        assert p[2].add(p[2])[0] == 400
        for i, j in ((3, 0), (7, 0), (7, 3), (0, 5)):
            status, text = p[i].add(p[j])
            assert status == 400 and text.startswith("error: refused: "), text
        assert check_acyclic(p) == above
        # the one in the middle restarts: its children come back to it
        p[2].agent.stop()
        wait_until(lambda: up_at(p[0]) == {p[0].address, p[1].address}, 10,
                   "what is behind it is missing")
        assert p[0].overlay()["hosts_expected"] == 8
        p[2].start()
        wait_up(p[0], p, 20)
        assert check_acyclic(p) == above


def test_t57b_crossing_pairs():
    with places(4) as p:
        assert p[0].add(p[1])[0] == p[2].add(p[3])[0] == 200
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                jobs = [pool.submit(a.add, b) for a, b in
                        ((p[0], p[2]), (p[2], p[0]), (p[1], p[2]),
                         (p[3], p[0]))]
                results = [j.result() for j in jobs]
            print(results)
            wait_until(lambda: sorted(
                q.overlay()["hosts_expected"] for q in (p[0], p[2])) in (
                    [2, 2], [2, 4]), 20, "one tree or two")
            above = check_acyclic(p)
            assert above[p[1].address] == p[0].address
            assert above[p[3].address] == p[2].address
        wait_until(lambda: sorted(
            q.overlay()["hosts_expected"] for q in p) == [1, 1, 2, 4] or
            sorted(q.overlay()["hosts_expected"] for q in p) == [1, 2, 3, 4],
            30, "one of the invitations is taken in the end")
        check_acyclic(p)


def test_t57b_seventeenth_level():
    with places(18) as p:
        for i in range(16):
            assert p[i].add(p[i + 1]) == (200, "leaf agent added"), i
        wait_up(p[0], p[:17], 30)
        status, text = p[16].add(p[17])
        assert (status, text) == (400, "error: refused: too deep")
        assert p[17].overlay()["role"] == "root"
        if not LONG:
            return
        # a tree of two levels does not fit below level 15 either
        assert p[15].remove(p[16]) == 204
        wait_until(lambda: p[16].overlay()["role"] == "root", 10)
        assert p[16].add(p[17]) == (200, "leaf agent added")
        p[15].add(p[16])
        # the news of the removal climbs a level a second
        wait_up(p[0], p[:16], 30)
        assert up_at(p[16]) == {p[16].address, p[17].address}
        check_acyclic(p)


def copy_identity(a, b):
    shutil.copy(a.state_dir / "node.json", b.state_dir / "node.json")
    os.chown(b.state_dir / "node.json", AGENT_UID, AGENT_UID)


def test_t57b_one_identity_twice():
    """A copied state directory: refused by hand; who joins draws a new id."""
    with places(3, start=False) as p:
        for q in p[:2]:
            q.start()
        assert p[0].add(p[1])[0] == 200
        wait_up(p[0], p[:2])
        copy_identity(p[1], p[2])
        p[2].start()
        assert p[1].overlay()["node_id"] == p[2].overlay()["node_id"]
        assert p[0].add(p[2]) == (400, "error: refused: a child already")
        assert up_at(p[0]) == {q.address for q in p[:2]}
        assert p[0].overlay()["hosts_expected"] == 2
    with places(3, start=False) as p:
        joining(p, p[:1], 2)
        for q in p[:2]:
            q.start()
        wait_up(p[0], p[:2])
        copy_identity(p[1], p[2])
        p[2].start()
        wait_up(p[0], p, 20)
        assert len({q.overlay()["node_id"] for q in p}) == 3


# ---- by list ----

def write_list(lab, some):
    path = lab.dir / "hosts"
    path.write_text("# the fleet\n" + "".join(f"{p.address}\n" for p in some))
    return path


def test_static_list():
    with places(8, start=False) as p:
        path = write_list(p[0].host.lab, p)
        for q in p:
            q.args = ["--list", path, "--fanout", "2"]
        # who comes before its parent is elsewhere for the first 10 s
        for i, q in enumerate(p[:-1]):
            q.start()
            wait_up(p[0], p[:i + 1])
        # the last one is listed and was never there
        missing, = (m for m in p[0].members() if m["state"] != "up")
        assert (missing["host"], missing["state"]) == (p[7].address, "expected")
        assert p[0].overlay()["hosts_expected"] == 8
        # so it is by whoever is above its line
        assert [q.overlay()["hosts_expected"] for q in p[1:4]] == [4, 3, 2]
        p[7].start()
        wait_up(p[0], p)
        above = check_acyclic(p)
        assert [above[q.address] for q in p] == [
            None, *(p[(i - 1) // 2].address for i in range(1, 8))]
        # the inner one is gone: its children find another place, then return
        p[1].agent.kill()
        wait_until(lambda: up_at(p[0]) ==
                   {q.address for q in p if q is not p[1]}, 10, "repaired")
        assert p[0].overlay()["hosts_expected"] == 8
        p[1].start()
        wait_up(p[0], p)
        if LONG:
            wait_until(lambda: check_acyclic(p) == above, 30,
                       "the listed layout")


# ---- by joining ----

def joining(some, candidates, fanout):
    for q in some:
        q.args = ["--fanout", fanout]
        for c in candidates:
            q.args += ["--seed", c.address, "--root", c.address]


def test_drain():
    """It leaves in order: nobody misses it, its children are elsewhere."""
    with places(7, start=False) as p:
        joining(p, p[:1], 2)
        for q in p:
            q.start()
        wait_up(p[0], p, 20)
        inner = next(q for q in p[1:] if any(
            above == q.address for above in parents(p).values()))
        r = request(inner.host, inner.address, "POST", "/api/v1/overlay/drain")
        assert r.status == 204, r.text
        rest = [q for q in p if q is not inner]
        wait_up(p[0], rest, 20)
        wait_until(lambda: p[0].overlay()["hosts_expected"] == 6, 5,
                   "it is not expected")
        # the same with a signal
        leaf = next(q for q in rest if q.address not in parents(rest).values())
        leaf.agent.stop()
        leaf.args = [*leaf.args, "--drain"]
        leaf.start()
        wait_up(p[0], rest, 20)
        leaf.agent.stop(15)
        wait_until(lambda: p[0].overlay()["hosts_expected"] == 5, 5,
                   "it is not expected either")


def test_drained_root():
    """Whoever is the root next knows that it has left."""
    with places(3, start=False) as p:
        joining(p, p[:2], 4)
        for q in p:
            q.start()
        wait_up(p[0], p, 20)
        r = request(p[0].host, p[0].address, "POST", "/api/v1/overlay/drain")
        assert r.status == 204, r.text
        wait_up(p[1], p[1:], 20)
        assert p[1].overlay()["hosts_expected"] == 2
        assert {m["host"] for m in p[1].members()} == {
            q.address for q in p[1:]}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

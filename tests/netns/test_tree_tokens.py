#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tokens between agents: who is told one, what a stranger gets to know."""
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import Lab, wait_until
from middle import Middle, middle, stranger
from tree import Node, request, token_files

BOSS = {"Authorization": "Bearer boss"}
HELLO = "/api/v1/peer/hello"
SPEC = {"filter": {"proto": "icmp"}, "key": "src", "increment": "pkt"}


@contextlib.contextmanager
def pair():
    """A root and its child, which share a token, and a task."""
    with Lab(2) as lab:
        lab.dir.chmod(0o711)  # the agents are not root
        args = token_files(lab, "fleet", "peer", "f" * 43)
        root, child = (Node(h, [], args=args) for h in lab.hosts)
        for node in (root, child):
            node.start()
        r = root.post("/api/v1/overlay/children", {"host": child.address},
                      headers=BOSS)
        assert r.status == 201, r.text
        r = root.post("/api/v1/tasks", SPEC, headers=BOSS)
        assert r.status == 201, r.text
        task = f"/api/v1/tasks/{r.json()['data']['id']}"
        wait_complete(root, task)
        yield root, child, task


def ask(root, task):
    return root.get(task + "/totals", headers=BOSS)


def wait_complete(root, task):
    def complete():
        r = ask(root, task)
        return (r.status == 200
                and r.json()["meta"]["coverage"]["complete"])
    wait_until(complete, 15, "a complete answer")


@contextlib.contextmanager
def replaced(child, says, status=200):
    """A stranger at the child's address, which is no more."""
    child.agent.kill()
    with stranger(child, says, status) as server:
        yield server


def wait_beats(server):
    before = len(server.seen)
    wait_until(lambda: len(server.seen) > before + 2, 15, "beats")


def test_t49_another_one_answers_at_a_childs_address():
    """Whoever proved it once has gone: the next one there sees hello alone."""
    with pair() as (root, child, task):
        node_id = child.get("/api/v1/overlay",
                            headers=BOSS).json()["data"]["node_id"]
        says = {"node_id": node_id, "incarnation": 1, "overlay": "linnet",
                "proof": "00" * 32, "nonce": "00" * 16}
        with replaced(child, says) as server:
            # a question, a probe, a change, and beats
            r = ask(root, task)
            reasons = r.json()["meta"]["coverage"]["missing"]
            assert [m["reason"] for m in reasons] == ["denied"], reasons
            root.post("/api/v1/probes", {"kind": "bw", "dst": child.address,
                                         "duration_s": 1}, headers=BOSS)
            root.post(task, {}, method="DELETE", headers=BOSS)
            wait_beats(server)
        assert set(server.seen) == {(HELLO, False)}, set(server.seen)


@pytest.mark.parametrize("status,name", [(409, "moved"), (403, "denied")])
def test_a_refusal_without_proof_is_no_word_of_the_childs(status, name):
    """It answers hello as the child would a beat: that it is another one."""
    with pair() as (root, child, task):
        says = {"type": f"/problems/{name}", "node_id": "e" * 32,
                "incarnation": 9, "lease": "9.00000000000000ff.9"}
        with replaced(child, says, status) as server:
            for _ in range(2):
                wait_beats(server)
                scope = ask(root, task).json()["meta"]["coverage"]
                assert not scope["complete"], scope
                assert scope["hosts_expected"] == 2, scope
                assert [m["host"] for m in scope["missing"]] == [
                    child.address], scope


class Recorder(Middle):
    """Passes all on, and knows what came over which connection."""

    def setup(self):
        super().setup()
        self.line = []
        self.server.lines.append(self.line)

    def _pass(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        keep = {k: v for k, v in self.headers.items()
                if k.startswith("X-") or k in ("Content-Type",
                                               "Authorization")}
        self.line.append((self.path, "Authorization" in keep))
        r = self._send(self.command, self.path, body, keep)
        self.reply(r.status, r.text.encode())

    do_GET = do_POST = do_PUT = do_DELETE = _pass


def test_hello_once_a_connection():
    """Each begins with one; what is asked over a kept one costs none."""
    with pair() as (root, child, task):
        with middle(child) as server:
            server.RequestHandlerClass, server.lines = Recorder, []
            wait_complete(root, task)
            n = len(server.lines)
            for _ in range(20):
                wait_complete(root, task)
            lines = [line for line in server.lines if line]
        assert len(lines) <= n + 1, lines  # one more beside a beat
        for line in lines:
            assert line[0] == (HELLO, False), line
            assert all(token for _, token in line[1:]), line
        asked = [p for line in lines for p, _ in line if p.endswith("/ask")]
        assert len(asked) > 20


class Far(Recorder):
    """Answers as over a way that long; hello has that of its connection."""

    def reply(self, *what):
        # this is what is tested, not a wait
        time.sleep(self.server.way_s * (1 + (self.path == HELLO)))
        super().reply(*what)


def test_hello_of_a_child_that_is_far_away():
    """What is asked at the same time needs a new connection each."""
    with pair() as (root, child, task):
        tasks = [task]
        for proto in ("tcp", "udp", "sctp", "50", "51"):
            r = root.post("/api/v1/tasks", {**SPEC, "filter": {"proto": proto}},
                          headers=BOSS)
            assert r.status == 201, r.text
            tasks.append(f"/api/v1/tasks/{r.json()['data']['id']}")
        with middle(child) as server:
            server.RequestHandlerClass, server.lines = Far, []
            server.way_s = 0
            wait_complete(root, task)
            server.way_s = 0.14
            wait_until(lambda: root.get(
                "/api/v1/overlay", headers=BOSS).json()["data"]["children"][0]
                ["latency_ms"] >= 140, 5, "a beat that takes that long")
            n = len(server.lines)
            with ThreadPoolExecutor(len(tasks)) as pool:
                replies = list(pool.map(lambda t: ask(root, t), tasks))
            assert len(server.lines) > n, "they were asked over what was there"
            for r in replies:
                assert r.json()["meta"]["coverage"]["complete"], r.text
                assert r.seconds < 2, r.seconds


def test_a_stranger_is_told_who_and_no_more():
    """Where the root is, is for peers."""
    with pair() as (_root, child, _task):
        body = {"nonce": "ab" * 16}
        r = child.post(HELLO, body)
        assert r.status == 200
        assert set(r.json()) == {"node_id", "overlay", "proof"}, r.text
        assert "X-Linnet-Epoch" not in r.headers
        r = child.post(HELLO, body, headers=BOSS)
        assert set(r.json()) == {"node_id", "overlay", "proof"}, r.text
        r = child.post(HELLO, body, headers={
            "Authorization": "Bearer " + "f" * 43})
        assert {"rooted", "root_addr"} <= set(r.json()), r.text


def test_version_and_epoch_are_on_all_answers():
    """What is not under its lease learns of which epoch it is, in the body
    too; without the token nobody learns it."""
    with pair() as (_root, child, task):
        peer = {"Authorization": "Bearer " + "f" * 43}
        epoch = child.get("/api/v1/overlay",
                          headers=BOSS).json()["data"]["epoch_text"]
        number = task.split("/")[-1]

        def answer(status, method, path, body=None, headers=peer):
            if body:
                headers = {**headers, "Content-Type": "application/json"}
            r = request(child.host, child.address, method,
                        f"/api/v1/peer/{path}", body, headers)
            assert r.status == status, (path, r.text)
            assert r.headers.get("X-Linnet-Api") == "1.0", (path, r.headers)
            return r.headers.get("X-Linnet-Epoch"), r.json().get("epoch")

        for asked in (("POST", "ask", "{}"), ("GET", "members"),
                      ("PUT", f"tasks/{number}", "{}"),
                      ("DELETE", f"tasks/{number}")):
            assert answer(409, *asked) == (epoch, epoch), asked
        assert answer(200, "GET", "tasks?owner=root") == (epoch, None)
        assert answer(400, "POST", "beat", "{}") == (epoch, None)
        other = {"X-Linnet-Api": "2.0"}
        for path in ("beat", "hello", "join", "grant", "invite", "leave"):
            assert answer(409, "POST", path, "{}", {**peer, **other}) == (
                epoch, epoch)
        assert answer(409, "POST", "hello", "{}", other) == (None, None)
        assert answer(403, "POST", "ask", "{}", BOSS) == (None, None)
        assert answer(401, "POST", "ask", "{}", {}) == (None, None)


def test_a_flood_from_the_parents_address():
    """Who is there without its token takes neither connections nor the room
    for requests of the parent."""
    with pair() as (root, child, task), contextlib.ExitStack() as stack:
        peer = {"Authorization": "Bearer " + "f" * 43}

        def call(headers=None):
            return request(root.host, child.address, "GET",
                           "/api/v1/peer/tasks?owner=root",
                           headers=headers).status

        for _ in range(60):
            s = stack.enter_context(root.host.socket())
            s.connect((child.address, 8000))
        assert call() == 401
        assert call(peer) == 200
        assert request(root.host, child.address, "GET", "/api/v1/status",
                       headers=BOSS).status == 503
        assert any(call() == 429 for _ in range(500))
        for _ in range(20):
            assert call(peer) == 200
            assert ask(root, task).json()["meta"]["coverage"]["complete"]


def test_seeds_are_for_who_may_need_them_back():
    """A list of tasks has theirs for the parent and for root candidates."""
    with Lab(3) as lab:
        lab.dir.chmod(0o711)  # the agents are not root
        args = token_files(lab, "fleet", "peer", "f" * 43)
        peer = {"Authorization": "Bearer " + "f" * 43}
        root, spare, other = (Node(h, [], args=args) for h in lab.hosts)
        root.args += ["--seed", root.address, "--root", root.address,
                      "--root", spare.address]
        root.start()
        wait_until(lambda: root.get("/api/v1/overlay", headers=BOSS)
                   .json()["data"]["role"] == "root", 15, "it is the root")
        # not before it has asked the others what they hold
        wait_until(lambda: root.post("/api/v1/tasks", SPEC, headers=BOSS)
                   .status == 201, 20, "the task is taken")
        path = "/api/v1/peer/tasks?owner=root"

        def listed(node, full):
            r = request(node.host, root.address, "GET", path + full,
                        headers=peer)
            return r.status, "seed" in r.text
        assert listed(spare, "&full=1") == (200, True)
        assert listed(other, "") == (200, False)
        assert listed(other, "&full=1") == (403, False)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))

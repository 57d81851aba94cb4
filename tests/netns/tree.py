# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of real agents and monitors, a namespace each."""
import hashlib
import http.client
import itertools
import json
import os
import threading
import time
import urllib.parse
from pathlib import Path

import lab as lab_module
from lab import AGENT_UID, BUILD, MONITOR_UID, Lab, wait_until

# parent -> children; 8 hosts, as in the worked example of the legacy form
EIGHT = {0: [1, 2, 5], 2: [3, 4], 5: [6, 7]}


class Reply:
    def __init__(self, status, headers, body, seconds):
        self.status, self.headers = status, headers
        self.text, self.seconds = body.decode(), seconds

    def json(self):
        return json.loads(self.text)

    @property
    def answered(self):
        return tuple(map(int, self.headers["X-Linnet-Answered"].split("/")))

    @property
    def complete(self):
        return self.headers["X-Linnet-Complete"] == "true"

    @property
    def missing(self):
        """host -> reason"""
        text = self.headers.get("X-Linnet-Missing", "")
        return dict(item.split("=") for item in text.split(", ") if "=" in item)


# One client after the other: an agent limits what one address asks.
CLIENTS = itertools.cycle(f"127.0.1.{i}" for i in range(1, 17))


def connect(host, address, timeout=10, source=None):
    """A connection from inside a namespace, from an address of its own."""
    name, _, port = address.partition(":")
    if not source and name == host.ip4:
        source = next(CLIENTS)
    connection = http.client.HTTPConnection(name, int(port or 8000), timeout)
    connection.sock = host.socket()
    connection.sock.settimeout(timeout)
    if source:
        connection.sock.bind((source, 0))
    connection.sock.connect((name, int(port or 8000)))
    return connection


def exchange(connection, method, path, body=None, headers=None):
    began = time.monotonic()
    connection.request(method, path, body, headers or {})
    r = connection.getresponse()
    data = r.read()
    return Reply(r.status, dict(r.getheaders()), data, time.monotonic() - began)


def request(host, address, method, path, body=None, headers=None, timeout=10,
            source=None):
    """One request on a connection of its own."""
    connection = connect(host, address, timeout, source)
    try:
        return exchange(connection, method, path, body, headers)
    finally:
        connection.close()


def ask(host, address, deadline_ms=None, **fields):
    """POST / with these fields."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if deadline_ms:
        headers["X-Linnet-Deadline"] = str(deadline_ms)
    return request(host, address, "POST", "/", urllib.parse.urlencode(fields),
                   headers)


class Node:
    """A host of the tree with its two programs."""

    def __init__(self, host, children, monitor=True, args=()):
        self.host, self.address = host, host.ip4
        self.children, self.args = children, list(args)
        self.program = BUILD / "agent/linnet-agent"
        self.state_dir = host.lab.dir / f"state-{host.name}"
        self.state_dir.mkdir(mode=0o700)
        lab_module.os.chown(self.state_dir, AGENT_UID, AGENT_UID)
        self.monitor = host.monitor(instance="lab") if monitor else None
        self.agent = None

    def start(self, wait=True):
        secure = "--token-file" in self.args
        argv = [self.program, "--instance", "lab",
                *([] if secure else ["--insecure"]),
                "--listen", f"{self.address}:8000", "--user", str(AGENT_UID),
                "--monitor-user", str(MONITOR_UID),
                "--state-dir", self.state_dir, *self.args]
        for child in self.children:
            argv += ["--child", child]
        self.agent = self.host.start(argv, ready=wait)
        return self.agent.wait_ready() if wait else self.agent

    def ask(self, **fields):
        return ask(self.host, self.address, **fields)

    def get(self, path, **options):
        return request(self.host, self.address, "GET", path, **options)

    def post(self, path, value, method="POST", headers=None):
        return request(self.host, self.address, method, path, json.dumps(value),
                       {"Content-Type": "application/json", **(headers or {})})


class Tree:
    """with Tree(EIGHT) as tree: tree.nodes[0] is the root."""

    def __init__(self, shape=None, monitor=True):
        self.shape = EIGHT if shape is None else shape
        self.monitor = monitor

    def __enter__(self):
        n = 1 + sum(len(c) for c in self.shape.values())
        self.lab = Lab(n)
        try:
            self.lab.dir.chmod(0o711)  # the agents are not root
            self.nodes = []
            for i, host in enumerate(self.lab.hosts):
                children = [self.lab.hosts[c].ip4
                            for c in self.shape.get(i, ())]
                self.nodes.append(Node(host, children, self.monitor))
            for node in reversed(self.nodes):
                node.start()
            self.root = self.nodes[0]
            self.wait_rows()
        except BaseException:
            print(self.lab.logs())
            self.lab.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        return self.lab.__exit__(kind, value, trace)

    def below(self, i):
        """Numbers of a node and all below it."""
        return {i}.union(*(self.below(c) for c in self.shape.get(i, ())))

    def rows(self):
        """(all agents hear their subtree, all monitors are attached)"""
        for i, node in enumerate(self.nodes):
            status = node.get("/api/v1/status").json()["data"]
            if status["overlay"]["hosts_expected"] != len(self.below(i)):
                return False
            if self.monitor and status["monitor"]["state"] != "attached":
                return False
        members = self.root.get("/api/v1/overlay/members?limit=1000").json()
        return ([m["state"] for m in members["data"]] ==
                ["up"] * len(self.nodes))

    def wait_rows(self, seconds=15):
        wait_until(self.rows, seconds, "the tree stands")

    def wait_complete(self, seconds=15, **query):
        """Until the root's answer to this query is complete."""
        return wait_until(lambda: (r := self.root.ask(**query)).status == 200
                          and r.complete and r, seconds, "complete answers")


class Load:
    """Queries at a fixed rate from threads of their own while a body runs."""

    def __init__(self, node, rate=20, **query):
        self.node, self.period, self.query = node, 1 / rate, query
        self.replies, self.errors = [], []
        self._stop = threading.Event()
        self._threads = []
        self._timer = threading.Thread(target=self._run)

    def _one(self, began):
        try:
            reply = self.node.ask(**self.query)
            assert reply.status == 200, (reply.status, reply.text)
            self.replies.append((began, reply))
        except (OSError, http.client.HTTPException, AssertionError) as e:
            self.errors.append(e)

    def _run(self):
        due = time.monotonic()
        while not self._stop.is_set():
            t = threading.Thread(target=self._one, args=(time.monotonic(),))
            t.start()
            self._threads.append(t)
            due += self.period
            self._stop.wait(max(0, due - time.monotonic()))

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._timer.join()
        for t in self._threads:
            t.join()


# ---- one task, its ledger, and the answer that must follow from it ----

COUNTER = {"type": "query counter", "interface": "INPUT", "proto": "icmp"}


def configure(tree, proto="icmp"):
    r = tree.root.ask(type="config counter", interface="INPUT", proto=proto)
    assert (r.status, r.text) == (200, "counter configured"), r.text


def ping_all(nodes, count=2):
    """Node i sends count + i echo requests to each other."""
    for i, a in enumerate(nodes):
        for b in nodes:
            if a is not b:
                a.host.ping(b.address, count + i, 0.002)


def ledger_of(nodes, **query):
    """address -> packets, each host asked for itself alone."""
    return {n.address: n.ask(scope="host", **query).json()[0] for n in nodes}


def check_answer(reply, ledger, gone, reasons):
    """The answer is whole, or lacks exactly what is gone."""
    assert reply.status == 200, reply.text
    missing = reply.missing
    rest = len(ledger) - len(missing)
    assert reply.answered == (rest, len(ledger)), (reply.answered, missing)
    assert reply.complete == (not missing)
    value = sum(v for a, v in ledger.items() if a not in missing)
    assert reply.json()[0] == value, (missing, reply.text, ledger)
    if missing:
        assert set(missing) == gone, missing
        assert set(missing.values()) <= reasons, missing


def token_files(lab, name, role, token):
    digest = hashlib.sha256(token.encode()).hexdigest()
    own, table = lab.dir / f"{name}.token", lab.dir / f"{name}.tokens"
    own.write_text(token + "\n")
    table.write_text(f"{role} {name} {digest}\nadmin boss "
                     + hashlib.sha256(b"boss").hexdigest() + "\n")
    for path in (own, table):
        path.chmod(0o600)
        os.chown(path, AGENT_UID, AGENT_UID)
    return ["--token-file", str(table), "--peer-token-file", str(own)]


def memory_kib(process, field):
    for line in Path(f"/proc/{process.leader()}/status").read_text().split("\n"):
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(field)

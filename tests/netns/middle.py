# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers in the place of an agent: between it and its parent, or a stranger."""
import contextlib
import http.server
import json
import socketserver
import threading
import time

from tree import COUNTER, Tree, configure, connect, exchange, ledger_of, ping_all

STAR = {0: [1, 2, 3]}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, node, port):
        super().__init__((node.address, port), Middle, bind_and_activate=False)
        self.socket.close()
        self.socket = node.host.socket()
        self.socket.setsockopt(1, 2, 1)
        self.server_bind()
        self.server_activate()
        self.node, self.play = node, None
        self.asked, self.last = 0, None
        self.asks, self.change, self.puts = [], None, []
        self.beat = None  # changes what it says of itself
        self.rows = None  # and of those below it

    def handle_error(self, *_):
        """The agent closes connections of late answers."""


class Middle(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the agent; plays with the answers to asks."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Nothing."""

    def setup(self):
        """A connection to the agent for each one that comes in."""
        super().setup()
        self.behind = None

    def finish(self):
        if self.behind:
            self.behind.close()
        super().finish()

    def _send(self, *what):
        if not self.behind or not self.behind.sock:
            node = self.server.node
            self.behind = connect(node.host, node.address)
        return exchange(self.behind, *what)

    def _pass(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        keep = {k: v for k, v in self.headers.items()
                if k.startswith("X-") or k == "Content-Type"}
        if self.command == "PUT":
            if self.server.change:
                body = json.dumps(self.server.change(json.loads(body)))
            self.server.puts.append(json.loads(body))
        try:
            r = self._send(self.command, self.path, body, keep)
        except OSError:
            self.behind = None  # it was idle for too long
            r = self._send(self.command, self.path, body, keep)
        if self.path.endswith("/ask"):
            self.server.last = (keep, json.loads(body))
            self.server.asks.append(self.server.last)
        if self.server.play and self.path.endswith("/ask"):
            self.server.asked += 1
            self.server.play(self, r)
        elif self.server.beat and self.path.endswith("/beat") and \
                r.status == 200:
            mutate(self.server.beat)(self, r)
        elif self.server.rows and self.command == "GET" and \
                "/peer/members" in self.path:
            mutate(self.server.rows)(self, r)
        else:
            self.reply(r.status, r.text.encode())

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _pass


@contextlib.contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Stranger(Middle):
    """Has no proof, and says the same to all."""

    def _pass(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, "Authorization" in self.headers))
        self.reply(self.server.status, json.dumps(self.server.says).encode())

    do_GET = do_POST = do_PUT = do_DELETE = _pass


@contextlib.contextmanager
def stranger(node, says, status=200):
    """Sits at this address, where no agent is; it has `seen` (path, did a
    token come?)."""
    server = Server(node, 8000)
    server.RequestHandlerClass, server.seen = Stranger, []
    server.status, server.says = status, says
    with serving(server):
        yield server


@contextlib.contextmanager
def middle(node):
    """What others hear of this node goes through a Server."""
    there = ["!", "-i", "lo", "-d", node.address, "-p", "tcp",
             "--dport", "8000", "-j"]
    # and nothing passes it by
    rules = [("nat", "PREROUTING", *there, "REDIRECT", "--to-ports", "8001"),
             ("filter", "INPUT", *there, "REJECT", "--reject-with",
              "tcp-reset")]
    for table, *rule in rules:
        node.host.run(["iptables-nft", "-t", table, "-A", *rule])
    # connections that are open already are not redirected
    node.agent.stop()
    node.start()
    server = Server(node, 8001)
    try:
        with serving(server):
            yield server
    finally:
        for table, *rule in rules:
            node.host.run(["iptables-nft", "-t", table, "-D", *rule])


@contextlib.contextmanager
def star_with_middle():
    """Four hosts; what the root hears of the last goes through a Server."""
    with Tree(STAR) as tree:
        configure(tree)
        configure(tree, "udp")
        ping_all(tree.nodes)
        ledger = ledger_of(tree.nodes, **COUNTER)
        tree.wait_complete(**COUNTER)
        with middle(tree.nodes[3]) as server:
            tree.wait_complete(**COUNTER)
            yield tree, server, ledger


# ---- what it may play with an answer ----

def late(seconds):
    def play(handler, reply):
        time.sleep(seconds)  # this is what is tested, not a wait
        handler.reply(reply.status, reply.text.encode())
    return play


def drip(handler, reply):
    """A byte a second, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(reply.text)))
    handler.end_headers()
    for c in reply.text.encode():
        handler.wfile.write(bytes([c]))
        handler.wfile.flush()
        time.sleep(1)


def mutate(change):
    def play(handler, reply):
        value = reply.json()
        changed = change(value)
        value = value if changed is None else changed
        text = value if isinstance(value, str) else json.dumps(value)
        handler.reply(200, text.encode())
    return play


def part(**members):
    return mutate(lambda v: v["part"].update(members))


def totals(**members):
    return mutate(lambda v: v["part"]["tot"].update(members))


def coverage(**members):
    return mutate(lambda v: v["coverage"].update(members))

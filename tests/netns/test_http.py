# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's HTTP server against clients that do not mean well.

Most tests run against http_server, the server with handlers that only show
what reached them; T44 runs the agent itself.
"""
import contextlib
import hashlib
import itertools
import json
import os
import re
import select
import socket
import time

import pytest

import lab as lab_module
from lab import AGENT_UID, best_of_3, status_of, wait_until, within

PORT = 8000
BETWEEN_AGENTS = "/api/v1/peer/open"
LOCAL = b"Host: 127.0.0.1\r\n"
COMMON = {"cache-control": "no-store", "x-content-type-options": "nosniff",
          "content-security-policy":
          "default-src 'self'; frame-ancestors 'none'"}


class Reply:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value


def connect(host, source=None, address="127.0.0.1", port=PORT):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = host.socket(family, socket.SOCK_STREAM)
    s.settimeout(5)
    if source:
        s.bind((source, 0))
    s.connect((address, port))
    return s


def read_reply(s, head=False):
    """One reply with its body; status 0: the connection was closed."""
    raw = b""
    while True:
        with contextlib.suppress(ConnectionResetError):
            more = s.recv(65536)
            raw += more
            reply = Reply(raw)
            if not more:
                return reply
            if reply.status == 100:
                raw = raw.partition(b"\r\n\r\n")[2]
                reply = Reply(raw)
            length = int(reply.headers.get("content-length", 1 << 30))
            if reply.status == 101 or head and b"\r\n\r\n" in raw:
                return reply
            if b"\r\n\r\n" in raw and len(reply.body) >= length:
                return reply
            continue
        return Reply(raw)


def ask(host, data, source=None, address="127.0.0.1", **options):
    with connect(host, source, address) as s:
        # A refusal may come before all is sent.
        with contextlib.suppress(ConnectionError):
            s.sendall(data)
        return read_reply(s, **options)


def get(path, *headers):
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(body, *headers, path="/"):
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1",
             f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sockets_of(pid):
    """Open sockets of a process."""
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            n += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    return n


@pytest.fixture(scope="module")
def network():
    with lab_module.Lab(1) as one:
        yield one


@pytest.fixture(scope="module")
def host(network):
    return network.hosts[0]


def start_server(host, *args):
    path = lab_module.BUILD / "tests/unit/http_server"
    process = host.start([path, *args])
    wait_until(lambda: "ready" in process.log(), 5, "http_server")
    return process


@pytest.fixture
def server(host):
    process = start_server(host, PORT, "", "lab.example")
    yield process
    assert process.stop() == 0, process.log()


def good(host, source=None):
    reply = ask(host, post(b"type=still here"), source)
    assert (reply.status, reply.body) == (200, b"still here")


GUARD = {
    "method": (b"G(T /open HTTP/1.1\r\n" + LOCAL + b"\r\n", 400),
    "header name": (b"GET /open HTTP/1.1\r\n" + LOCAL + b"A(: b\r\n\r\n", 400),
    "blank before colon": (b"POST / HTTP/1.1\r\n" + LOCAL +
                           b"Content-Length : 3\r\n\r\nabc", 400),
    "CR first": (b"\rGET /open HTTP/1.1\r\n" + LOCAL + b"\r\n", 400),
    "Host twice": (b"GET /open HTTP/1.1\r\n" + LOCAL + LOCAL + b"\r\n", 400),
    "Host absent": (b"GET /open HTTP/1.1\r\n\r\n", 400),
    "Host unparsable": (b"GET /open HTTP/1.1\r\nHost: 127.0.0.1:x\r\n\r\n",
                        400),
    "Host of another": (b"GET /open HTTP/1.1\r\nHost: 127.evil.com\r\n\r\n",
                        403),
    "length twice": (b"POST / HTTP/1.1\r\n" + LOCAL + b"Content-Length: 6\r\n"
                     b"Content-Length: 6\r\n\r\ntype=a", 400),
    "length and coding": (b"POST / HTTP/1.1\r\n" + LOCAL +
                          b"Content-Length: 6\r\nTransfer-Encoding: chunked"
                          b"\r\n\r\n6\r\ntype=a\r\n0\r\n\r\n", 400),
    "length no number": (b"POST / HTTP/1.1\r\n" + LOCAL +
                         b"Content-Length: -1\r\n\r\n", 400),
    "length absent": (b"POST / HTTP/1.1\r\n" + LOCAL + b"\r\n", 411),
    "chunked": (b"POST / HTTP/1.1\r\n" + LOCAL + b"Transfer-Encoding: chunked"
                b"\r\n\r\n6\r\ntype=a\r\n0\r\n\r\n", 411),
    "coding unknown": (b"POST / HTTP/1.1\r\n" + LOCAL +
                       b"Transfer-Encoding: gzip\r\n\r\n", 411),
    "too large": (b"POST / HTTP/1.1\r\n" + LOCAL +
                  b"Content-Length: 65537\r\n\r\n", 413),
    "far too large": (b"POST / HTTP/1.1\r\n" + LOCAL + b"Content-Length: " +
                      b"9" * 30 + b"\r\n\r\n", 413),
    "frame too large": (b"POST /peer HTTP/1.1\r\n" + LOCAL +
                        b"Content-Type: application/json\r\n"
                        b"Content-Length: 4194305\r\n\r\n", 413),
    "body on GET": (b"GET /open HTTP/1.1\r\n" + LOCAL +
                    b"Content-Length: 1\r\n\r\nx", 413),
    "path": (get("/nothing"), 404),
    "path with NUL": (get("/op%00en"), 404),
    "absolute target": (get("http://127.0.0.1/open"), 404),
    "row without method": (b"PUT / HTTP/1.1\r\n" + LOCAL +
                           b"Content-Length: 0\r\n\r\n", 405),
    "row without method, no length": (b"PUT / HTTP/1.1\r\n" + LOCAL + b"\r\n",
                                      405),
    "OPTIONS": (b"OPTIONS / HTTP/1.1\r\n" + LOCAL + b"\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + LOCAL + b"\r\n", 405),
    "multipart": (post(b"x", "Content-Type: multipart/form-data; boundary=x"),
                  415),
    "text": (post(b"type=a", "Content-Type: text/plain"), 415),
    "content coding": (post(b"type=a", "Content-Encoding: gzip"), 415),
    "expectation": (post(b"type=a", "Expect: a miracle"), 417),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /open\r\n\r\n", 400),
    "form with NUL": (post(b"type=a%00b"), 400),
    "form with bad escape": (post(b"type=%4"), 400),
    "form key twice": (post(b"type=a&type=b"), 400),
    "form of 33": (post(b"&".join(b"a%d=1" % i for i in range(33))), 400),
    "JSON key twice": (post(b'{"type": "a", "type": "a"}',
                            "Content-Type: application/json"), 400),
    "JSON nested": (post(b'{"type": ["a"]}',
                         "Content-Type: application/json"), 400),
    "JSON cut": (post(b'{"type": "a"', "Content-Type: application/json"), 400),
    "long URI": (get("/" + "a" * 65536), 414),
    "headers": (get("/open", *(f"X-{i}: aaaaaaaaaaaaaaa"
                               for i in range(1000))), 431),
}


@pytest.mark.parametrize("row", GUARD)
def test_t34_guard(host, server, row):
    data, status = GUARD[row]
    began = time.monotonic()
    reply = ask(host, data)
    within(time.monotonic() - began, 1, row)
    assert reply.status == status
    good(host)


def test_t34_refusal_closes_the_connection(host, server):
    for row, (data, status) in GUARD.items():
        reply = ask(host, data, source="127.0.0.3")
        # What the form decoder refuses was read whole: it may go on.
        if not row.startswith(("form", "JSON")):
            assert reply.headers["connection"] == "close", row
        if status == 405:
            assert reply.headers["allow"] == "GET, POST", row


def test_t34_raw_nul_ends_the_target(host, server):
    reply = ask(host, b"GET /open\0/../x HTTP/1.1\r\n" + LOCAL + b"\r\n")
    assert reply.status in (200, 400)
    if reply.status == 200:
        assert json.loads(reply.body)["path"] == "/open"
    good(host)


def test_t34_length_says_too_little(host, server):
    """The rest is a request of its own, and none that is understood."""
    with connect(host) as s:
        s.sendall(b"POST / HTTP/1.1\r\n" + LOCAL +
                  b"Content-Length: 6\r\n\r\ntype=a&more=of the same\r\n\r\n")
        raw = b""
        while more := s.recv(65536):
            raw += more
    first, *others = raw.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ") and first.endswith(b"\r\n\r\na")
    assert all(o.startswith(b"400 ") for o in others)
    good(host)


def test_requests_as_they_should_be(host, server):
    reply = ask(host, get("/items/%5B::1%5D?x=%2541&y=a+b"))
    seen = json.loads(reply.body)
    assert (seen["segment"], seen["query"]) == ("[::1]", "x=%2541&y=a+b")
    assert ask(host, post(b"type=query+bw")).body == b"query bw"
    assert ask(host, post(b'{"type": "query bw"}',
                          "Content-Type: application/json")).status == 200
    assert ask(host, post(b"type=a", "Expect: 100-continue")).status == 200
    assert ask(host, b"GET /open HTTP/1.0\r\n\r\n").status == 200
    assert ask(host, b"GET /open HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
               address="::1").status == 200
    assert ask(host, b"GET /open HTTP/1.1\r\nHost: LAB.example\r\n\r\n"
               ).status == 200
    reply = ask(host, get("/read").replace(b"GET", b"HEAD"), head=True)
    assert (reply.status, reply.body) == (200, b"")
    big = b'{"x": "' + b"y" * 65000 + b'"}'
    reply = ask(host, post(big, "Content-Type: application/json",
                           path="/change"))
    assert json.loads(reply.body)["body_len"] == len(big)
    big = b"[" + b"1," * 2000000 + b"1]"
    reply = ask(host, post(big, "Content-Type: application/json", path="/peer"))
    assert json.loads(reply.body)["body_len"] == len(big)


def test_headers_of_every_answer(host, server):
    for data in (get("/open"), get("/nothing"), post(b""), get("/late/10")):
        reply = ask(host, data)
        assert COMMON.items() <= reply.headers.items()
        assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])
        assert not any("access-control" in name for name in reply.headers)
    reply = ask(host, get("/nothing", "X-Request-Id: my-Id-7"))
    assert reply.headers["x-request-id"] == "my-Id-7"
    assert reply.headers["content-type"] == "application/problem+json"
    assert json.loads(reply.body) == {
        "type": "/problems/not-found", "title": "Not found", "status": 404,
        "detail": "not found", "instance": "/nothing",
        "request_id": "my-Id-7"}
    for bad in ("a b", "a" * 65, "x;y", "\u00e9"):
        reply = ask(host, get("/open", f"X-Request-Id: {bad}"))
        assert reply.headers["x-request-id"] != bad
    reply = ask(host, post(b""))
    assert reply.body == b"error: no message type"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


HOSTS = {None: 400, "": 400, "127.0.0.1": 200, "127.0.0.1:8000": 200,
         "127.0.0.1:1": 200, "localhost": 200, "lab.example": 200,
         "127.evil.com": 403, "evil.com": 403, "[::1]": 403, "0.0.0.0": 403,
         "127.0.0.1:99999": 400}
ORIGINS = {None: True, "null": False, "http://evil.com": False,
           "http://127.0.0.1:8001": False, "OWN": True,
           "https://127.0.0.1:8000": False}
SITES = {None: True, "same-origin": True, "none": True, "same-site": False,
         "cross-site": False}


def test_t38_browser_rules(host, server):
    sources = itertools.cycle(f"127.0.1.{i}" for i in range(1, 9))
    for (name, status), (origin, own), (site, same) in itertools.product(
            HOSTS.items(), ORIGINS.items(), SITES.items()):
        lines = [] if name is None else [f"Host: {name}"]
        if origin == "OWN":
            port = "" if name and ":" in name else ":8000"
            lines.append(f"Origin: http://{name}{port}")
        elif origin:
            lines.append(f"Origin: {origin}")
        if site:
            lines.append(f"Sec-Fetch-Site: {site}")
        text = "\r\n".join(lines) + "\r\n" if lines else ""
        expected = status
        if status == 200 and not (own and same):
            expected = 403
        reply = ask(host, (f"POST / HTTP/1.1\r\n{text}Content-Length: 6\r\n"
                           "\r\ntype=a").encode(), next(sources))
        assert reply.status == expected, lines
        reply = ask(host, f"GET / HTTP/1.1\r\n{text}\r\n".encode(),
                    next(sources))
        assert reply.status == status, lines


class Slow:
    """A client that takes its time: first sends, then drips."""

    def __init__(self, host, first, drip=b""):
        self.socket, self.drip, self.ended = connect(host), drip, None
        self.began = time.monotonic()
        self.socket.sendall(first)
        self.socket.setblocking(False)

    def turn(self):
        with contextlib.suppress(BlockingIOError):
            try:
                if self.socket.recv(1) == b"":
                    self.ended = time.monotonic() - self.began
                elif not self.drip:
                    return
                self.socket.send(self.drip)
            except ConnectionError:
                self.ended = self.ended or time.monotonic() - self.began


@best_of_3
def test_slow_clients_are_closed(host, server):
    """Half-open, lying and dripping clients are gone within 11 s."""
    idle = sockets_of(server.pid)
    clients = {
        "nothing": Slow(host, b""),
        "half a line": Slow(host, b"GET /op"),
        "TLS": Slow(host, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
        "lying length": Slow(host, post(b"type=a").replace(b"h: 6", b"h: 60")),
        "drip headers": Slow(host, b"GET /open HTTP/1.1\r\nX: ", b"y"),
        "drip body": Slow(host, b"POST / HTTP/1.1\r\n" + LOCAL +
                          b"Content-Length: 60000\r\n\r\n", b"a"),
        "drip blank lines": Slow(host, b"", b"\r\n"),
    }
    reader = connect(host)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.sendall(get("/large/16000000"))
    kept = connect(host)
    kept.sendall(get("/late/11500"))
    upgraded = connect(host)
    upgraded.sendall(get("/upgrade", "Connection: Upgrade", "Upgrade: echo"))
    assert read_reply(upgraded).status == 101
    began = time.monotonic()
    while time.monotonic() - began < 11:
        for c in clients.values():
            if c.ended is None:
                c.turn()
        asked = time.monotonic()
        good(host, "127.0.0.9")
        within(time.monotonic() - asked, 1, "a good request meanwhile")
        select.select([], [], [], 0.25)
        if (all(c.ended for c in clients.values()) and
                sockets_of(server.pid) == idle + 2):
            break
    for name, c in clients.items():
        within(c.ended or 99, 11, name)
    wait_until(lambda: sockets_of(server.pid) == idle + 2, 1, "slow reader")
    # What waits for its answer, or speaks another protocol, is left alone.
    kept.settimeout(15)
    assert read_reply(kept).body == b"late"
    upgraded.sendall(b"still there?")
    assert upgraded.recv(64) == b"still there?"
    for s in (reader, kept, upgraded, *(c.socket for c in clients.values())):
        s.close()


def usable(connections, *request):
    """How many of them get an answer."""
    n = 0
    for s in connections:
        with contextlib.suppress(ConnectionError):
            s.sendall(get(*request or ["/open"]))
            n += read_reply(s).status == 200
    return n


def test_connections_per_address(host, server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(host)) for _ in range(40)]
        assert usable(many) == 32
        good(host, "127.0.0.2")
    wait_until(lambda: usable([connect(host)]) == 1, 5, "room again")


def test_connections_in_all(host, server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(host, f"127.0.2.{i // 30 + 1}"))
                for i in range(270)]
        assert usable(many) == 256
        # room for sixteen more of each neighbour
        more = [stack.enter_context(connect(host, f"127.0.5.{i // 20 + 1}"))
                for i in range(30)]
        assert usable(more, BETWEEN_AGENTS) == 26


def test_neighbour_takes_no_room_of_others(host, server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(host, "127.0.5.1"))
                for _ in range(60)]
        assert usable(many, BETWEEN_AGENTS) == 48
        many = [stack.enter_context(connect(host, f"127.0.2.{i // 30 + 1}"))
                for i in range(230)]
        assert usable(many) == 224


def test_connections_kept_for_neighbours(host, tokens):
    """Whoever else is at the address of a neighbour gets none of those that
    are kept for it: idle ones give way, and what clients ask is refused; those
    that it uses itself stay."""
    process = start_server(host, PORT, tokens)
    peer = (BETWEEN_AGENTS, "Authorization: Bearer peer")
    address = "127.0.5.6"
    with contextlib.ExitStack() as stack:
        def connections(n):
            return [stack.enter_context(connect(host, address))
                    for _ in range(n)]

        connections(32)
        greeted = connections(16)
        assert usable(greeted, "/api/v1/peer/hello") == 16
        client, = connections(1)
        client.sendall(get("/open"))
        assert read_reply(client).status == 503
        assert read_reply(client).status == 0  # and closed
        own = []
        for _ in range(16):
            own += connections(1)
            assert usable(own[-1:], *peer) == 1
        connections(20)
        assert usable(own, *peer) == 16
    assert process.stop() == 0, process.log()


def test_upgrade(host, server):
    with connect(host) as s:
        s.sendall(get("/upgrade", "Connection: Upgrade", "Upgrade: echo") +
                  b"early")
        reply = read_reply(s)
        assert (reply.status, reply.headers["upgrade"]) == (101, "echo")
        early = reply.body or s.recv(64)
        assert early == b"early"
        s.sendall(b"later")
        assert s.recv(64) == b"later"
    good(host)


def until_refused(host, source, path, most=1000):
    """(requests that were served, the refusal or the last reply, seconds)"""
    with connect(host, source) as s:
        began = time.monotonic()
        for n in range(most):
            s.sendall(get(path))
            reply = read_reply(s)
            if reply.status != 200:
                return n, reply, time.monotonic() - began
    return most, reply, time.monotonic() - began


@best_of_3
def test_requests_per_second(host, server):
    n, reply, seconds = until_refused(host, "127.0.0.4", "/open")
    within(seconds, 0.9, f"{n} requests")
    assert (reply.status, n) == (429, 200)
    assert reply.headers["retry-after"] == "1"
    good(host, "127.0.0.5")


@best_of_3
def test_requests_per_second_of_neighbours(host, server):
    """What belongs to the tree is served, and takes nothing from what clients
    at the same address may ask; of strangers it is limited as all else."""
    n, reply, _ = until_refused(host, "127.0.5.1", "/api/v1/peer/open", 300)
    assert (reply.status, n) == (200, 300)
    n, reply, seconds = until_refused(host, "127.0.5.1", "/open")
    within(seconds, 0.9, f"{n} requests")
    assert (reply.status, n) == (429, 200)
    assert ask(host, get("/api/v1/peer/open"), "127.0.5.1").status == 200
    n, reply, seconds = until_refused(host, "127.0.0.6", "/api/v1/peer/open")
    within(seconds, 0.9, f"{n} requests")
    assert (reply.status, n) == (429, 200)


def until_limited(host, source, *request):
    """(replies until 429, their statuses), a connection for each"""
    statuses, began = [], time.monotonic()
    while len(statuses) < 300:
        status = ask(host, get(*request), source).status
        if status == 429:
            break
        statuses.append(status)
    within(time.monotonic() - began, 0.9, f"{len(statuses)} requests")
    return len(statuses), set(statuses)


@best_of_3
def test_requests_per_second_without_a_token(host, tokens):
    """An address proves nothing where there are tokens: what a neighbour's
    token is not with is limited; hello, which comes before the token, has a
    count of its own at a neighbour's address."""
    process = start_server(host, PORT, tokens)
    try:
        n, statuses = until_limited(host, "127.0.5.7", BETWEEN_AGENTS)
        assert (n, statuses) == (200, {401})
        n, statuses = until_limited(host, "127.0.5.7", "/api/v1/peer/hello")
        assert (n, statuses) == (200, {200})
        read = "Authorization: Bearer read"
        n, statuses = until_limited(host, "127.0.5.8", BETWEEN_AGENTS, read)
        assert (n, statuses) == (200, {403})
        n, statuses = until_limited(host, "127.0.5.8", BETWEEN_AGENTS,
                                    "Authorization: Bearer peer")
        assert (n, statuses) == (300, {200})
        n, statuses = until_limited(host, "127.0.0.7", "/api/v1/peer/hello")
        assert (n, statuses) == (200, {200})
        assert ask(host, get("/open"), "127.0.0.7").status == 429
    finally:
        assert process.stop() == 0, process.log()


def waiting(stack, host, source, path="/late/3000"):
    s = stack.enter_context(connect(host, source))
    s.sendall(get(path))
    return s


def test_queries_in_progress(host, server):
    with contextlib.ExitStack() as stack:
        first = [waiting(stack, host, "127.0.3.1") for _ in range(16)]
        wait_until(lambda: ask(host, get("/late/0"), "127.0.3.1").status
                   == 503, 2, "16 of one address")
        reply = ask(host, get("/late/0"), "127.0.3.1")
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["content-type"] == "application/problem+json"
        others = [waiting(stack, host, f"127.0.3.{i // 8 + 2}")
                  for i in range(32)]
        wait_until(lambda: ask(host, get("/late/0"), "127.0.3.9").status
                   == 503, 2, "48 in all")
        # What needs no identity is answered all the same.
        assert ask(host, get("/open"), "127.0.3.9").status == 200
        for s in (*first, *others):
            assert read_reply(s).body == b"late"
    assert ask(host, get("/late/0"), "127.0.3.1").status == 200


def test_queries_in_progress_of_neighbours(host, server):
    """What agents ask each other is not in the room of clients' questions;
    clients at their addresses are as any other."""
    with contextlib.ExitStack() as stack:
        peers = [waiting(stack, host, f"127.0.5.{i // 20 + 1}",
                         "/api/v1/peer/late/3000") for i in range(60)]
        clients = [waiting(stack, host, "127.0.5.4") for _ in range(16)]
        wait_until(lambda: ask(host, get("/late/0"), "127.0.5.4").status
                   == 503, 2, "16 of one address")
        path = "/api/v1/peer/late/0"
        assert ask(host, get(path), "127.0.5.4").status == 200
        others = [waiting(stack, host, f"127.0.3.{i // 8 + 2}")
                  for i in range(32)]
        wait_until(lambda: ask(host, get("/late/0"), "127.0.3.9").status
                   == 503, 2, "48 in all")
        for s in (*peers, *clients, *others):
            assert read_reply(s).body == b"late"


def test_end_with_requests_under_way(host):
    process = start_server(host, PORT)
    with connect(host) as waits, connect(host) as upgraded:
        waits.sendall(get("/late/60000"))
        upgraded.sendall(get("/upgrade", "Connection: Upgrade",
                             "Upgrade: echo"))
        assert read_reply(upgraded).status == 101
        assert process.stop() == 0, process.log()
        assert read_reply(waits).status == 0


@pytest.fixture
def tokens(network):
    """A token file of the lab's agent; role -> token."""
    path = network.dir / "tokens"
    text = "".join(f"{role} {role} {hashlib.sha256(role.encode()).hexdigest()}\n"
                   for role in ("read", "config", "admin", "peer"))
    path.write_text(text)
    path.chmod(0o600)
    network.dir.chmod(0o711)
    return path


def test_roles(host, tokens):
    process = start_server(host, PORT, tokens)
    rows = {"/read": "read config admin", "/peer": "peer",
            "/change": "config admin"}
    for path, allowed in rows.items():
        for role in ("read", "config", "admin", "peer", None, "wrong"):
            header = [f"Authorization: Bearer {role}"] if role else []
            data = (get(path, *header) if path == "/read" else
                    post(b"{}", "Content-Type: application/json", *header,
                         path=path))
            reply = ask(host, data, source="127.0.0.6")
            expected = (401 if role in (None, "wrong") else
                        200 if role in allowed.split() else 403)
            assert reply.status == expected, (path, role)
            if expected == 401:
                assert (reply.headers["www-authenticate"] ==
                        'Bearer realm="linnet"')
    assert ask(host, get("/open")).status == 200
    wrong = get("/read", "Authorization: Bearer guess")
    for _ in range(10):
        assert ask(host, wrong, "127.0.0.7").status == 401
    reply = ask(host, wrong, "127.0.0.7")
    assert (reply.status, reply.headers["retry-after"]) == (429, "60")
    assert ask(host, wrong, "127.0.0.8").status == 401
    assert process.stop() == 0, process.log()


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("address", ["", "127.0.0.1", "[::1]:8000", "0.0.0.0",
                                     "[::]"])
def test_t44_who_may_ask(host, tokens, address, file, flag):
    """Beyond loopback nobody serves without tokens or --insecure."""
    os.chown(tokens, AGENT_UID, AGENT_UID)
    argv = [lab_module.BUILD / "agent/linnet-agent", "--user", AGENT_UID,
            "--instance", "lab"]
    argv += ["--listen", address] if address else []
    argv += ["--token-file", tokens] if file else []
    argv += ["--insecure"] if flag else []
    process = host.start(argv, ready=True)
    if address in ("0.0.0.0", "[::]") and not file and not flag:
        assert process.wait() == 78
        assert process.wait_ready(check=False) is None
        assert "needs --token-file FILE" in process.log()
        assert "--insecure" in process.log()
        return
    process.wait_ready()
    to = "::1" if ":" in address else "127.0.0.1"
    name = f"[{to}]" if ":" in to else to
    status = ask(host, f"GET /api/v1/status HTTP/1.1\r\nHost: {name}\r\n\r\n"
                 .encode(), address=to).status
    assert status == (401 if file else 200)
    process_status = status_of(process.pid)
    assert process_status["Uid"].split() == [str(AGENT_UID)] * 4
    assert int(process_status["CapEff"], 16) == 0
    assert int(process_status["CapBnd"], 16) == 0
    assert process_status["NoNewPrivs"].strip() == "1"
    assert process_status["Seccomp"].strip() == "2"
    assert ("insecure: every caller" in process.log()) == (flag and not file)
    assert process.stop() == 0, process.log()


def test_t44_bad_token_file(host, tokens):
    """A token file that others can read is as good as none."""
    argv = [lab_module.BUILD / "agent/linnet-agent", "--user", AGENT_UID,
            "--instance", "lab", "--token-file", tokens]
    for owner, mode in ((AGENT_UID, 0o644), (0, 0o600), (AGENT_UID, 0o660)):
        os.chown(tokens, owner, owner)
        tokens.chmod(mode)
        process = host.start(argv)
        assert process.wait() == 78
        assert str(tokens) in process.log() or "token file" in process.log()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the users of some hosts send each other, and what arrived of it: the
truth beside what agents say of it.

Traffic is a process of its own with sockets in every host: numbered datagrams
from each to each, and short TCP connections whose bytes come back.  Ledger is
what it leaves.  All times are of the monotonic clock.
"""
import array
import bisect
import contextlib
import ctypes
import json
import multiprocessing
import os
import random
import select
import signal
import socket
import struct
import threading
import time

UDP_PORT, TCP_PORT = 5000, 5001
TICK_S = 0.025
TCP_EVERY_S, TCP_WAIT_S = 1.2, 5
TCP_BYTES = 600
HEAD = struct.Struct("!IBB")


class Traffic:
    """Begins with start(), ends with stop(), which gives the Ledger.

    rate: datagrams a second, of all hosts together.
    """

    def __init__(self, hosts, seed, rate=120, tcp=True):
        self.hosts, self.rate, self.clients = hosts, rate, len(hosts) * tcp
        self.rng = random.Random(seed)
        self.file = hosts[0].lab.dir / "ledger"
        self.sent_t, self.sent_way = array.array("d"), array.array("H")
        self.got_n, self.got_t = array.array("I"), array.array("d")
        self.tcp = []
        self.ended = threading.Event()
        self.udp = [h.socket(socket.AF_INET, socket.SOCK_DGRAM) for h in hosts]
        self.listeners = [h.socket() for h in hosts]
        for h, u, t in zip(hosts, self.udp, self.listeners):
            u.bind((h.ip4, UDP_PORT))
            u.setblocking(False)
            t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            t.bind((h.ip4, TCP_PORT))
            t.listen(64)
            t.setblocking(False)
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=self._run, daemon=True)

    def start(self):
        self.process.start()

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(20)
        assert self.process.exitcode == 0, "the traffic ended badly"
        for s in (*self.udp, *self.listeners):
            s.close()
        return Ledger(self.file, [h.ip4 for h in self.hosts])

    # ---- in the process ----

    def _run(self):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        signal.signal(signal.SIGTERM, lambda *_: self.ended.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        clients = [threading.Thread(target=self._client, args=(i,), daemon=True)
                   for i in range(self.clients)]
        for c in clients:
            c.start()
        self._loop()
        with open(self.file, "wb") as f:
            rows = (self.sent_t, self.sent_way, self.got_n, self.got_t)
            head = json.dumps({"n": [len(r) for r in rows], "tcp": self.tcp})
            f.write(struct.pack("!I", len(head)) + head.encode())
            for r in rows:
                r.tofile(f)
        os._exit(0)

    def _loop(self):
        self.poll = select.poll()
        self.read = {}
        for u in self.udp:
            self._watch(u, self._datagrams)
        for t in self.listeners:
            self._watch(t, self._accept)
        due, quiet = time.monotonic(), None
        while quiet is None or time.monotonic() < quiet:
            if self.ended.is_set() and quiet is None:
                quiet = time.monotonic() + 0.5  # what is on its way arrives
            left = max(0, due - time.monotonic())
            for fd, _ in self.poll.poll(left * 1000):
                self.read[fd]()
            if quiet is None and time.monotonic() >= due:
                # who was late does not make up for it at once
                due = max(due + TICK_S, time.monotonic() - 2 * TICK_S)
                for _ in range(int(self.rate * TICK_S)):
                    self._send()

    def _watch(self, s, what):
        self.poll.register(s, select.POLLIN)
        self.read[s.fileno()] = lambda: what(s)

    def _send(self):
        a, b = self.rng.sample(range(len(self.hosts)), 2)
        data = HEAD.pack(len(self.sent_t), a, b) + bytes(
            self.rng.randrange(20, 400))
        now = time.monotonic()
        with contextlib.suppress(OSError):  # its link is down: not sent
            self.udp[a].sendto(data, (self.hosts[b].ip4, UDP_PORT))
            self.sent_t.append(now)
            self.sent_way.append(a << 8 | b)

    def _datagrams(self, s):
        with contextlib.suppress(BlockingIOError):
            while True:
                data = s.recv(2048)
                self.got_n.append(HEAD.unpack_from(data)[0])
                self.got_t.append(time.monotonic())

    def _accept(self, s):
        with contextlib.suppress(OSError):
            connection, _ = s.accept()
            connection.setblocking(False)
            self._watch(connection, self._echo)

    def _echo(self, s):
        try:
            data = s.recv(4096)
            if data and s.send(data) == len(data):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.poll.unregister(s)
        del self.read[s.fileno()]
        s.close()

    def _client(self, a):
        rng = random.Random(self.rng.random() + a)
        while not self.ended.wait(TCP_EVERY_S * (0.5 + rng.random())):
            b = rng.choice([i for i in range(len(self.hosts)) if i != a])
            began = time.monotonic()
            try:
                self._talk(a, b)
                wrong = ""
            except OSError as e:
                wrong = str(e) or type(e).__name__
            self.tcp.append((a, b, began, time.monotonic(), wrong))

    def _talk(self, a, b):
        with self.hosts[a].socket() as s:
            s.settimeout(TCP_WAIT_S)
            s.connect((self.hosts[b].ip4, TCP_PORT))
            s.sendall(bytes(TCP_BYTES))
            left = TCP_BYTES
            while left:
                data = s.recv(left)
                if not data:
                    raise ConnectionError("closed")
                left -= len(data)


class Ledger:
    """Which datagrams were sent and which arrived; hosts by address.

    A way is (source, destination); sent and got hold times in order.
    """

    def __init__(self, path, hosts):
        self.hosts = hosts
        with open(path, "rb") as f:
            head = json.loads(f.read(struct.unpack("!I", f.read(4))[0]))
            rows = [array.array(c) for c in "dHId"]
            for row, n in zip(rows, head["n"]):
                row.fromfile(f, n)
        self.fill(*rows, head["tcp"])

    def fill(self, sent_t, sent_way, got_n, got_t, tcp):
        self.tcp = [(self.hosts[a], self.hosts[b], *rest)
                    for a, b, *rest in tcp]
        self.n, self.arrived = len(sent_t), len(got_n)
        self.lost = []  # (sent at, source, destination)
        ways = [(self.hosts[w >> 8], self.hosts[w & 255]) for w in sent_way]
        both = [(a, b) for a in self.hosts for b in self.hosts]
        keys = both + [(None, b) for b in self.hosts]
        # of what arrived: when it was sent, and when it came
        self.sent = {k: array.array("d") for k in keys}
        self.came = {k: array.array("d") for k in keys}
        self.gone = {k: array.array("d") for k in keys}
        seen = bytearray(self.n)
        for n, t in zip(got_n, got_t):
            seen[n] = 1
            for k in (ways[n], (None, ways[n][1])):
                self.sent[k].append(sent_t[n])
                self.came[k].append(t)
        for k, times in self.sent.items():
            self.sent[k] = array.array("d", sorted(times))
        for n, there in enumerate(seen):
            if not there:
                self.lost.append((sent_t[n], *ways[n]))
                for k in (ways[n], (None, ways[n][1])):
                    self.gone[k].append(sent_t[n])

    def at_least(self, host, since, until, source=None):
        """Datagrams that came to a host after the one time, before the other.
        """
        came = self.came[source, host]
        return max(0, bisect.bisect_right(came, until)
                   - bisect.bisect_right(came, since))

    def at_most(self, host, since, until, source=None):
        """Datagrams that may have been there between these times: those that
        came, sent before the end and not there before the beginning."""
        k = source, host
        return max(0, bisect.bisect_right(self.sent[k], until)
                   - bisect.bisect_left(self.came[k], since))

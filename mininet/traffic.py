# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic of known size between hosts, and the kernel's own count of it.

udp() and tcp() return when all was delivered and both ends are closed.
Background is steady traffic between all hosts, by mix.py; sweep(), upload()
and syn_flood() are what does not belong there, each at a bounded rate.
Counters keeps one nfacct object for each source, protocol and destination,
in the filter table of the destination: the second opinion about what came.
"""

import contextlib
import json
import pathlib
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time

from mix import checksum
from sandbox import inside

UDP_PORT = 9001
TCP_PORT = 9002
AGENT_PORT = 8000
UDP_PAYLOAD = 972           # 1,000 bytes with the headers of IP and UDP
UDP_HEADERS = 28
BURST = 32                  # datagrams in flight, below any queue's length
TIMEOUT_S = 10
MIX = pathlib.Path(__file__).with_name("mix.py")


def ping_all(cluster):
    """One echo request for each ordered pair of hosts, all answered."""
    for node in cluster.net.hosts:
        pings = [node.popen(["ping", "-nqc1", "-W5", other.IP()])
                 for other in cluster.net.hosts if other is not node]
        for ping in pings:
            out, _ = ping.communicate()
            if ping.returncode != 0:
                raise RuntimeError(f"{node.name}: {out.decode()}")


def udp(cluster, src, dst, datagrams):
    """Send numbered datagrams; all must arrive."""
    with inside(cluster.net[dst]):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((cluster.ip(dst), UDP_PORT))
    with inside(cluster.net[src]):
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sink, source:
        sink.settimeout(TIMEOUT_S)
        source.connect((cluster.ip(dst), UDP_PORT))
        for first in range(0, datagrams, BURST):
            count = min(BURST, datagrams - first)
            for _ in range(count):
                source.send(bytes(UDP_PAYLOAD))
            for _ in range(count):
                sink.recv(2048)


def tcp(cluster, src, dst, length):
    """Send `length` bytes over one connection and close it."""
    with inside(cluster.net[dst]):
        listener = socket.create_server((cluster.ip(dst), TCP_PORT))
    with inside(cluster.net[src]):
        source = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, source:
        listener.settimeout(TIMEOUT_S)
        source.settimeout(TIMEOUT_S)
        source.connect((cluster.ip(dst), TCP_PORT))
        sink, _ = listener.accept()
        sender = threading.Thread(target=_send_all, args=(source, length))
        sender.start()
        with sink:
            sink.settimeout(TIMEOUT_S)
            received = 0
            while chunk := sink.recv(1 << 16):
                received += len(chunk)
        sender.join()
        source.recv(1)                          # the other end's close
    if received != length:
        raise RuntimeError(f"{src} -> {dst}: {received} of {length} bytes")


def _send_all(source, length):
    source.sendall(bytes(length))
    source.shutdown(socket.SHUT_WR)


def scan_ports(cluster, src, dst, first, last):
    """One connection attempt to each port of the range."""
    cluster.net[src].popen(["nc", "-z", cluster.ip(dst), f"{first}-{last}"],
                           stdin=subprocess.DEVNULL).communicate()


class Background:
    """mix.py between all hosts; done says what it did, once it has ended."""

    def __init__(self, cluster, seed=1):
        hosts = [f"{node.IP()}=/proc/{node.pid}/ns/net"
                 for node in cluster.net.hosts]
        self.argv = [sys.executable, str(MIX), "--seed", str(seed)] + hosts
        self.done = {}

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        readable, _, _ = select.select([self.process.stdout], [], [],
                                       TIMEOUT_S)
        if not readable or "running" not in self.process.stdout.readline():
            self.__exit__()
            raise RuntimeError("mix.py does not start")
        return self

    def __exit__(self, *exc):
        try:
            out, _ = self.process.communicate(timeout=TIMEOUT_S)
            self.done = json.loads(out or "{}")
        finally:
            self.process.kill()
            self.process.wait()


def paced(seconds, rate):
    """0, 1, 2 ... for so many seconds, `rate` of them in each; none is made
    up for where the machine is slow."""
    begin = time.monotonic()
    for i in range(int(seconds * rate)):
        pause = begin + i / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if time.monotonic() > begin + seconds:
            return
        yield i


def sweep(cluster, src, dst, seconds, rate=40):
    """One connection attempt to each port from 1 on."""
    for i in paced(seconds, rate):
        with inside(cluster.net[src]):
            attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with attempt:
            attempt.settimeout(TIMEOUT_S)
            attempt.connect_ex((cluster.ip(dst), 1 + i))


def upload(cluster, src, dst, port, seconds, rate=5, size=200_000):
    """Send `rate` files a second, each over a connection of its own."""
    with inside(cluster.net[dst]):
        listener = socket.create_server((cluster.ip(dst), port))
    with listener:
        listener.settimeout(TIMEOUT_S)
        for _ in paced(seconds, rate):
            with inside(cluster.net[src]):
                source = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with source:
                source.settimeout(TIMEOUT_S)
                source.connect((cluster.ip(dst), port))
                sink, _ = listener.accept()
                with sink:
                    _send_through(source, sink, size)


def _send_through(source, sink, size):
    source.setblocking(False)
    sink.settimeout(TIMEOUT_S)
    sent = received = 0
    while received < size:
        if sent < size:
            with contextlib.suppress(BlockingIOError):
                sent += source.send(bytes(size - sent))
        received += len(sink.recv(1 << 17))


def syn_flood(cluster, src, dst, port, seconds, rate=300):
    """First packets of connections, each from another port, and no more."""
    with inside(cluster.net[src]):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW,
                            socket.IPPROTO_TCP)
    ends = socket.inet_aton(cluster.ip(src)) + socket.inet_aton(
        cluster.ip(dst))
    with raw:
        for i in paced(seconds, rate):
            sport = 1024 + i % 30000
            tcp = struct.pack(">HHIIBBHHH", sport, port, i << 8, 0, 5 << 4, 2,
                              64240, 0, 0)
            check = checksum(ends + struct.pack(">HH", 6, len(tcp)) + tcp)
            raw.sendto(tcp[:16] + struct.pack(">H", check) + tcp[18:],
                       (cluster.ip(dst), 0))


class Counters:
    """What the kernel of each measured host saw come in from each other
    host, by protocol; installed on entry, removed on exit."""

    CHAIN = "truth"

    def __init__(self, cluster, protocols):
        self.cluster = cluster
        self.protocols = protocols

    def __enter__(self):
        for name in self.cluster.parents:
            rules = ["*filter", f":{self.CHAIN} - [0:0]",
                     f"-A INPUT -j {self.CHAIN}"]
            rules += [f"-A {self.CHAIN} -p {proto} --{end} {AGENT_PORT} "
                      "-j RETURN" for proto in ("tcp", "udp")
                      for end in ("sport", "dport")]
            for proto in self.protocols:
                for src in self._sources(name):
                    self._run(name, "nfacct", "add", f"{proto}-{src}")
                    rules.append(
                        f"-A {self.CHAIN} -s {src} -p {proto} "
                        f"-m nfacct --nfacct-name {proto}-{src}")
            self._run(name, "iptables-restore", "-n", "-w",
                      stdin="\n".join(rules + ["COMMIT", ""]))
        return self

    def __exit__(self, *exc):
        for name in self.cluster.parents:
            self._run(name, "iptables", "-w", "-D", "INPUT", "-j", self.CHAIN)
            self._run(name, "iptables", "-w", "-F", self.CHAIN)
            self._run(name, "iptables", "-w", "-X", self.CHAIN)
            for proto in self.protocols:
                for src in self._sources(name):
                    self._run(name, "nfacct", "delete", f"{proto}-{src}")

    def read(self, proto):
        """{"source,destination": (packets, bytes)} of the pairs that talked,
        addresses in the key."""
        found = {}
        for name in self.cluster.parents:
            text = self._run(name, "nfacct", "list")
            for packets, length, src in re.findall(
                    r"pkts = (\d+), bytes = (\d+) *\} = " + proto + r"-(\S+);",
                    text):
                if int(packets):
                    key = f"{src},{self.cluster.ip(name)}"
                    found[key] = int(packets), int(length)
        return found

    def _sources(self, name):
        return [node.IP() for node in self.cluster.net.hosts
                if node.name != name]

    def _run(self, name, *argv, stdin=""):
        process = self.cluster.net[name].popen(
            list(argv), stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = process.communicate(stdin.encode())
        if process.returncode != 0:
            raise RuntimeError(f"{name}: {' '.join(argv)}: {out.decode()}")
        return out.decode()

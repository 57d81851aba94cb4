# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic of known size between hosts, and the kernel's own count of it.

udp() and tcp() return when all was delivered and both ends are closed.
Counters keeps one nfacct object for each source, protocol and destination,
in the filter table of the destination: the second opinion about what came.
"""

import re
import socket
import subprocess
import threading

from sandbox import inside

UDP_PORT = 9001
TCP_PORT = 9002
AGENT_PORT = 8000
UDP_PAYLOAD = 972           # 1,000 bytes with the headers of IP and UDP
UDP_HEADERS = 28
BURST = 32                  # datagrams in flight, below any queue's length
TIMEOUT_S = 10


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

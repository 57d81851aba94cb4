#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Steady mixed traffic between hosts, each a network namespace.

    mix.py 10.0.0.1=/proc/4711/ns/net 10.0.0.2=/proc/4712/ns/net ...

Every host serves pages on some TCP ports and fetches pages of others, the next
ones more than the far ones, over a few connections at once; it asks the first
host for names, pings others, and fetches something large.  The gaps between
these are drawn evenly from half to one and a half of their mean, so that no
interval of ten seconds is like another and all are alike: what a feature counts
is not so rare that learning would miss it, and what a busy machine does to it
is little beside that.

One process makes all sockets, each inside its host.  Each host does one thing
of a kind at a time, so that the rate is bounded on a slow machine, too.  It
prints "running", and ends with its standard input: what it did is its last
line.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections import Counter

from sandbox import entered

DNS_PORT = 53
BULK_PORT = 80
WEB_PORTS = (80, 443, 3306)
WEB_GAP_S, DNS_GAP_S, PING_GAP_S, BULK_GAP_S = 0.6, 0.5, 1.0, 4.0
PAGE_MEAN, PAGE_MAX = 12_000, 60_000
PARALLEL = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4)     # connections for a page
BULK_MIN, BULK_MAX = 150_000, 250_000
UNKNOWN_NAMES = 0.2
TIMEOUT_S = 5
TAIL_PROBES = "/proc/sys/net/ipv4/tcp_early_retrans"
NICE = -10
DOMAINS = [f"{name}.example" for name in
           ("mail", "files", "wiki", "news", "time", "build", "shop", "lab")]


class Host:
    def __init__(self, address, path, rng):
        self.address, self.path, self.rng = address, path, rng
        # An answer that a busy machine delays is no loss.
        with entered(path), open(TAIL_PROBES, "w") as f:
            f.write("0")

    def socket(self, kind, protocol=0, port=0):
        """A socket in this host's network, bound to its address."""
        with entered(self.path):
            s = socket.socket(socket.AF_INET, kind, protocol)
        try:
            s.setblocking(False)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((self.address, port))
        except OSError:
            s.close()
            raise
        return s


async def serve_page(reader, writer):
    """One line with a length and some padding; so many bytes back."""
    try:
        line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
        writer.write(bytes(min(int(line.split()[0]), BULK_MAX)))
        await writer.drain()
    except (OSError, ValueError, IndexError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()


class Names(asyncio.DatagramProtocol):
    """Answers each question for an address, or that there is none."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        known = not data[12:].startswith(b"\x02nx")
        answer = struct.pack(">HHHIH4s", 0xc00c, 1, 1, 300, 4,
                             b"\x0a\x00\x00\x01") if known else b""
        head = struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1,
                           len(answer) > 0, 0, 0)
        self.transport.sendto(data[:2] + head + data[12:] + answer, peer)


async def fetch(host, peer, port, length):
    loop = asyncio.get_running_loop()
    with host.socket(socket.SOCK_STREAM) as s:
        await loop.sock_connect(s, (peer, port))
        padding = host.rng.randint(60, 400) * b"x"
        await loop.sock_sendall(s, b"%d %s\n" % (length, padding))
        left = length
        while data := await loop.sock_recv(s, 1 << 17):
            left -= len(data)
        if left:
            raise OSError("cut short")


def neighbour(host, hosts):
    """Another host, the near ones of the list more often."""
    at = hosts.index(host)
    others = hosts[at + 1:] + hosts[:at]
    return host.rng.choices(others, [1 / d for d in
                                     range(1, len(hosts))])[0]


async def web(host, hosts):
    peer = neighbour(host, hosts)
    port = host.rng.choice(WEB_PORTS)
    await asyncio.gather(*(
        fetch(host, peer.address, port,
              min(int(host.rng.expovariate(1 / PAGE_MEAN)), PAGE_MAX))
        for _ in range(host.rng.choice(PARALLEL))))


async def bulk(host, hosts):
    await fetch(host, neighbour(host, hosts).address, BULK_PORT,
                host.rng.randint(BULK_MIN, BULK_MAX))


async def dns(host, hosts):
    loop = asyncio.get_running_loop()
    first = "nx" if host.rng.random() < UNKNOWN_NAMES else "".join(
        host.rng.choices("abcdefghijklm", k=host.rng.randint(3, 6)))
    name = f"{first}.{host.rng.choice(DOMAINS)}"
    question = b"".join(bytes([len(label)]) + label.encode()
                        for label in name.split("."))
    head = struct.pack(">HHHHHH", host.rng.getrandbits(16), 0x100, 1, 0, 0, 0)
    with host.socket(socket.SOCK_DGRAM) as s:
        await loop.sock_connect(s, (hosts[0].address, DNS_PORT))
        await loop.sock_sendall(s, head + question + b"\0\0\1\0\1")
        await loop.sock_recv(s, 512)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


async def ping(host, hosts):
    loop = asyncio.get_running_loop()
    body = struct.pack(">HH", host.rng.getrandbits(16), 1) + bytes(56)
    echo = struct.pack(">BBH", 8, 0, checksum(b"\x08\0\0\0" + body)) + body
    with host.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        peer = neighbour(host, hosts)
        await loop.sock_sendto(s, echo, (peer.address, 0))
        while not (await loop.sock_recv(s, 512)).endswith(body):
            pass                # a raw socket gets those of others, too


async def repeat(what, gap_s, host, hosts, done):
    await asyncio.sleep(gap_s * host.rng.random())
    while True:
        try:
            await asyncio.wait_for(what(host, hosts), TIMEOUT_S)
            done[what.__name__] += 1
        except (OSError, asyncio.TimeoutError):
            done[what.__name__ + " failed"] += 1
        await asyncio.sleep(gap_s * host.rng.uniform(0.5, 1.5))


async def run(hosts):
    loop = asyncio.get_running_loop()
    done = Counter()
    await loop.create_datagram_endpoint(
        Names, sock=hosts[0].socket(socket.SOCK_DGRAM, port=DNS_PORT))
    servers = [await asyncio.start_server(
        serve_page, sock=host.socket(socket.SOCK_STREAM, port=port))
        for host in hosts for port in {*WEB_PORTS, BULK_PORT}]
    tasks = [asyncio.create_task(repeat(what, gap_s, host, hosts, done))
             for host in hosts
             for what, gap_s in ((web, WEB_GAP_S), (dns, DNS_GAP_S),
                                 (ping, PING_GAP_S), (bulk, BULK_GAP_S))
             if host is not hosts[0] or what in (web, bulk)]
    print("running", flush=True)
    owner = asyncio.Event()
    loop.add_reader(sys.stdin, owner.set)
    await owner.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for server in servers:
        server.close()
    print(json.dumps(done), flush=True)


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("hosts", nargs="+", metavar="ADDRESS=NAMESPACE")
    p.add_argument("--seed", type=int, default=1, help="of all draws (1)")
    args = p.parse_args()
    if len(args.hosts) < 2:
        p.error("two hosts at least")
    pairs = [text.split("=", 1) for text in args.hosts]
    os.nice(NICE)               # the same rate beside other work
    asyncio.run(run([Host(*pair, random.Random(f"{args.seed} {pair[0]}"))
                     for pair in pairs]))


if __name__ == "__main__":
    main()

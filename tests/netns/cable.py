# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad cable between two interfaces, made of a process that passes frames on.

Each way is a dictionary: `delay` and `jitter` in seconds, and shares of the
frames that are lost (`loss`), come twice (`double`), have one bit turned over
(`flip`; not ARP, which has no checksum: the hosts would send elsewhere for a
minute), or have garbage in the middle of what an agent says to another, under
a right checksum (`garble`).  A seed gives the same frames the same fate.
"""
import contextlib
import ctypes
import heapq
import itertools
import multiprocessing
import os
import random
import select
import signal
import socket
import struct
import time

from traffic import checksum

ETH_P_ALL, PACKET_OUTGOING = 3, 4
ARP = b"\x08\x06"
AGENT_PORT, TCP, GARBAGE = 8000, 6, b"\xff" * 24


def garbled(frame, agents):
    """Bytes that are no text in place of some that an agent says to another;
    None if this is nothing of the kind."""
    if len(frame) < 54 or frame[12:14] != b"\x08\0" or frame[23] != TCP:
        return None
    total, = struct.unpack("!H", frame[16:18])
    ip, tail = frame[14:14 + total], frame[14 + total:]
    segment = ip[20:]
    if AGENT_PORT not in struct.unpack("!HH", segment[:4]) or not (
            socket.inet_ntoa(ip[12:16]) in agents and
            socket.inet_ntoa(ip[16:20]) in agents):
        return None
    text = (segment[12] >> 4) * 4
    room = len(segment) - text - len(GARBAGE)
    if room < 0:
        return None
    at = text + room // 2
    segment = (segment[:16] + b"\0\0" + segment[18:at] + GARBAGE
               + segment[at + len(GARBAGE):])
    check = checksum(ip[12:20] + struct.pack("!HH", TCP, len(segment))
                     + segment)
    segment = segment[:16] + struct.pack("!H", check) + segment[18:]
    return frame[:14] + ip[:20] + segment + tail


class Way:
    """One direction."""

    def __init__(self, source, sink, what, rng, agents):
        self.source, self.sink, self.rng = source, sink, rng
        self.what, self.agents = what, agents

    def happens(self, what):
        return self.rng.random() < self.what.get(what, 0)

    def fate(self, frame):
        """[(delay, frame)]"""
        if self.happens("loss"):
            return []
        if self.happens("flip") and frame[12:14] != ARP:
            bit = self.rng.randrange(14 * 8, len(frame) * 8)
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            frame = bytes(changed)
        if self.happens("garble"):
            frame = garbled(frame, self.agents) or frame
        return [(self.what.get("delay", 0)
                 + self.rng.random() * self.what.get("jitter", 0), frame)
                for _ in range(1 + self.happens("double"))]


class Cable:
    """to: from the first interface to the second; away: back."""

    def __init__(self, host, interfaces, to, away, seed, agents):
        one, two = (host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                    for _ in interfaces)
        for s, name in zip((one, two), interfaces):
            s.bind((name, ETH_P_ALL))
            s.setblocking(False)
        rng, agents = random.Random(seed), set(agents)
        self.ways = {one.fileno(): Way(one, two, to, rng, agents),
                     two.fileno(): Way(two, one, away, rng, agents)}
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=self._run, daemon=True)
        self.process.start()

    def end(self):
        """It must not have ended by itself."""
        alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        for way in self.ways.values():
            way.source.close()
        assert alive, "a cable broke"

    def _run(self):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        # no port and no connection of others is held
        low, high = sorted(self.ways)
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, 65536)
        poll = select.poll()
        for fd in self.ways:
            poll.register(fd, select.POLLIN)
        due, order = [], itertools.count()
        while True:
            left = due and max(0, due[0][0] - time.monotonic()) * 1000
            for fd, _ in poll.poll(left if due else None):
                way = self.ways[fd]
                # interfaces go down and come up: what is there is lost
                with contextlib.suppress(OSError):
                    frame, where = way.source.recvfrom(65536)
                    if where[2] == PACKET_OUTGOING:
                        continue
                    for delay, changed in way.fate(frame):
                        heapq.heappush(due, (time.monotonic() + delay,
                                             next(order), way.sink, changed))
            while due and due[0][0] <= time.monotonic():
                _, _, sink, frame = heapq.heappop(due)
                with contextlib.suppress(OSError):
                    sink.send(frame)

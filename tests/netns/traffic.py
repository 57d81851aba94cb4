# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic beside numbered datagrams: echoes, raw packets, reader processes."""
import ipaddress
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from lab import BUILD, children_of, executable, wait_until

FLOWGEN = BUILD / "tests/netns/flowgen"


# ---- the processes of a monitor -----------------------------------------

def supervisor_of(process):
    return process.leader()


def readers_of(process):
    """Numbers of the reader processes; the restore helper is none."""
    return [p for p in children_of(supervisor_of(process))
            if executable(p) == "linnet-monitor"]


def reader_of(process):
    return wait_until(lambda: readers_of(process), 5, "a reader")[0]


def capture_works(control, what="packets reach the reader"):
    """Waits until counted packets rise."""
    before = control.stats()
    start = sum(v.packets for v in before.received)
    wait_until(lambda: sum(v.packets for v in control.stats().received) > start,
               5, what)


# ---- echo over TCP ------------------------------------------------------

class Echo:
    """A server in one host and a client in another, one message a period.

    answers holds (sent, seconds until the answer) of each message; a message
    is sent only after the answer to the last one.
    """

    def __init__(self, client, server, port, period=0.05, address=None):
        self.period, self.answers, self.error = period, [], None
        self._stop = threading.Event()
        listener = server.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address or server.ip4, port))
        listener.listen(1)
        self._client = client.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._client.settimeout(5)
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.connect((address or server.ip4, port))
        self._server, _ = listener.accept()
        listener.close()
        self._threads = [threading.Thread(target=f, daemon=True)
                         for f in (self._serve, self._ask)]
        for t in self._threads:
            t.start()

    def _serve(self):
        while data := self._server.recv(64):
            self._server.sendall(data)

    def _ask(self):
        try:
            while not self._stop.is_set():
                sent = time.time()
                self._client.sendall(struct.pack("!d", sent))
                if len(self._client.recv(64)) != 8:
                    raise ConnectionError("closed")
                self.answers.append((sent, time.time() - sent))
                self._stop.wait(max(0, sent + self.period - time.time()))
        except OSError as e:
            self.error = e

    def finish(self):
        """The longest time that an answer took."""
        self._stop.set()
        self._threads[1].join(10)
        self._client.close()
        self._threads[0].join(10)
        self._server.close()
        assert self.error is None, self.error
        return max(t for _, t in self.answers)


class Protected:
    """What must flow whatever the readers do: lo, SSH, the agent's port."""

    def __init__(self, host, other, seconds):
        self.count = int(seconds / 0.05)
        self.ping = host.start(["ping", "-n", "-c", self.count, "-i", "0.05",
                                "-W", "1", "127.0.0.1"], stdout=subprocess.PIPE)
        self.echoes = [Echo(other, host, port) for port in (22, 8000)]

    def finish(self):
        slowest = [echo.finish() for echo in self.echoes]
        self.ping.wait(30)
        text = self.ping.popen.stdout.read().decode()
        assert f"{self.count} received" in text, text
        assert max(slowest) < 1.0, f"protected ports: {slowest} s"


# ---- raw packets --------------------------------------------------------

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ip_packet(src, dst, proto, payload):
    """IPv4 or IPv6 by the addresses, which are text or packed."""
    src, dst = (ipaddress.ip_address(a).packed for a in (src, dst))
    if len(src) == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0,
                           64, proto, 0, src, dst)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    else:
        head = struct.pack("!IHBB16s16s", 6 << 28, len(payload), proto, 64,
                           src, dst)
    return head + payload


def udp_packet(src, dst, sport, dport, data=b""):
    """UDP; the checksum is right, as IPv6 wants."""
    length = 8 + len(data)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    packed = [ipaddress.ip_address(a).packed for a in (src, dst)]
    pseudo = b"".join(packed) + struct.pack("!II", length, 17)
    check = checksum(pseudo + head + data) or 0xFFFF
    return ip_packet(src, dst, 17, head[:6] + struct.pack("!H", check) + data)


def icmp_packet(src, dst):
    """An answer to an echo request that nobody sent."""
    check = checksum(bytes(8))
    return ip_packet(src, dst, 1, struct.pack("!HHI", 0, check, 0))


def spray(host, packets, rate, seconds=60):
    """Sends raw packets from a host; the report of the sender."""
    path = host.lab.dir / f"spray-{host.name}-{time.time_ns()}"
    with open(path, "wb") as f:
        for packet in packets:
            f.write(struct.pack("=H", len(packet)) + packet)
    done = host.run([FLOWGEN, "spray", path, rate], timeout=seconds)
    path.unlink()
    return done


def reproducible(seed):
    """A generator of random numbers that a failure can be run again with."""
    print(f"seed {seed}")
    return random.Random(seed)


# ---- traces of system calls ---------------------------------------------

def trace_lines(path):
    """(pid, call, rest) of an strace -f -o file, continued lines joined."""
    open_calls = {}
    for line in Path(path).read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            open_calls[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if rest.startswith("<... "):
            rest = open_calls.pop(pid, "") + rest.split("resumed>", 1)[1]
        call, _, args = rest.partition("(")
        if call.isidentifier():
            yield int(pid), call, args


def trace_buffers(path):
    """Every buffer that was sent, of an strace -e write=all -o file."""
    data = bytearray()
    for line in Path(path).read_text(errors="replace").splitlines():
        m = re.match(r" \| ([0-9a-f]{5})  ((?:[0-9a-f]{2} ?| )+?)  ", line)
        if m and m.group(1) == "00000" or not m:
            if data:
                yield bytes(data)
            data.clear()
        if m:
            data += bytes.fromhex(m.group(2))
    if data:
        yield bytes(data)


def stop_process(pid):
    """SIGSTOP, until it is stopped."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "T" in Path(f"/proc/{pid}/stat").read_text()
               .rsplit(")", 1)[1][:3], 2, "stopped")

# SPDX-License-Identifier: GPL-2.0-or-later
"""T22: what the agent answers over HTTP is what the kernel counted.

Fragments, super-packets of TCP, UDP with segmentation offload, echoes; both
directions, both families, offloads on and off; to the packet and to the byte,
in the totals, in the estimate of a heavy key and in the list of heavy keys,
against the counters of the capture rules and of the accounting objects.
"""
import ipaddress
import re
import socket
import threading

import pytest

from lab import wait_until
from tree import Node

PORT = 5002
UDP_SEGMENT = 103
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
DIRECTIONS = ("in", "out")
UNITS = {"pkt": 0, "byte": 1}  # place in a pair of the kernel's


def proto_name(name, family):
    """As the capture rule says it."""
    return "ipv6-icmp" if (name, family) == ("icmp", 6) else name


def rule_counters(host, direction, name, family):
    """(packets, bytes) of the rule of one filter."""
    row, = re.findall(
        rf"^\[(\d+):(\d+)\] -A linnet-lab-{direction} "
        rf"-p {proto_name(name, family)} .*NFQUEUE",
        host.rules(family, counters=True), re.M)
    return tuple(map(int, row))


class Sinks:
    """Takes what comes to PORT, UDP and TCP, until it is closed."""

    def __init__(self, host, family):
        self.udp = host.socket(FAMILIES[family], socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # RCVBUFFORCE
        self.tcp = host.socket(FAMILIES[family], socket.SOCK_STREAM)
        for s in (self.udp, self.tcp):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", PORT))
        self.tcp.listen(1)
        self.received = 0
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self):
        connection, _ = self.tcp.accept()
        while data := connection.recv(1 << 18):
            self.received += len(data)
        connection.close()

    def datagrams(self):
        """Bytes of what waits."""
        size = 0
        while True:
            try:
                size += len(self.udp.recv(1 << 16, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return size

    def close(self):
        self.udp.close()
        self.tcp.close()


def send_datagrams(host, address, family):
    """Small, of the MTU, fragmented, and trains; bytes."""
    s = host.socket(FAMILIES[family], socket.SOCK_DGRAM)
    s.connect((address, PORT))
    sent = 0
    for size in [1, 64, 1400, 1472, 1473, 9000, 60000] * 20:
        sent += s.send(bytes(size))
    s.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
    for size in (10000, 10001, 64000) * 20:
        sent += s.send(bytes(size))
    s.close()
    return sent


def send_stream(host, address, family, size=24 << 20):
    s = host.socket(FAMILIES[family], socket.SOCK_STREAM)
    s.connect((address, PORT))
    s.sendall(bytes(size))
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b""
    s.close()
    return size


def one_way(src, dst, family):
    """All of the traffic from one host to the other."""
    address = dst.ip4 if family == 4 else dst.ip6
    sinks = Sinks(dst, family)
    sent = send_datagrams(src, address, family)
    got = 0

    def arrived():
        nonlocal got
        got += sinks.datagrams()
        return got >= sent

    wait_until(arrived, 5, "all datagrams")
    assert got == sent
    sent = send_stream(src, address, family)
    sinks.thread.join(20)
    assert sinks.received == sent
    sinks.close()
    assert src.ping(address, 20) == 20
    assert src.run(["ping", "-n", "-q", "-c", 10, "-i", "0.02", "-s", 8000,
                    address]).stdout.count("10 received") == 1


@pytest.mark.parametrize("offloads", ["on", "off"])
@pytest.mark.parametrize("family", [4, 6])
def test_t22_answers_equal_the_kernel(lab, family, offloads):
    lab.dir.chmod(0o711)  # the agent is not root
    a, b = lab.hosts
    for host in (a, b):
        host.run(["ethtool", "-K", host.dev, "gso", offloads, "tso", offloads,
                  "gro", offloads])
    node = Node(b, [])
    node.start()
    wait_until(lambda: node.get("/readyz").status == 200, 10, "ready")
    source, own = ((a.ip4, b.ip4) if family == 4 else (a.ip6, b.ip6))
    tasks = {}
    for direction in DIRECTIONS:
        for name in ("udp", "tcp", "icmp"):
            for unit in UNITS:
                proto = "icmpv6" if (name, family) == ("icmp", 6) else name
                reply = node.post("/api/v1/tasks", {
                    "filter": {"direction": direction, "proto": proto},
                    "key": "src_dst", "increment": unit})
                assert reply.status == 201, reply.text
                tasks[direction, name, unit] = reply.json()["data"]["id"]
    one_way(a, b, family)
    one_way(b, a, family)

    def answer(task, what):
        reply = node.get(f"/api/v1/tasks/{tasks[task]}/{what}")
        assert reply.status == 200, reply.text
        assert reply.json()["meta"]["coverage"]["complete"], reply.text
        return reply.json()

    def counters():
        return b.nfacct(), {(d, name): rule_counters(b, d, name, family)
                            for d in DIRECTIONS
                            for name in ("udp", "tcp", "icmp")}

    def settled():
        now = counters()
        return all(answer((d, name, "pkt"), "totals")["data"]["packets"] == n
                   for (d, name), (n, _) in now[1].items()) and \
            now == counters() and now

    def judge(objects, rules):
        for (direction, name, unit) in tasks:
            task, place = (direction, name, unit), UNITS[unit]
            rule = rules[direction, name]
            totals = answer(task, "totals")
            assert (totals["data"]["packets"],
                    totals["data"]["bytes"]) == rule, task
            loss = totals["meta"]["loss"]
            assert loss["missed"] == {"packets": 0, "bytes": 0}
            assert (loss["matched"]["packets"], loss["matched"]["bytes"]) == \
                objects[f"linnet-lab-{direction}"]
            # neighbour discovery has keys of its own
            rows = answer(task, "top?n=100")["data"]
            assert sum(r["estimate"] for r in rows) == rule[place], task
            assert all(r["lower"] == r["estimate"] == r["upper"] for r in rows)
            pair = (source, own) if direction == "in" else (own, source)
            key = ",".join(str(ipaddress.ip_address(x)) for x in pair)
            heavy = next(r["estimate"] for r in rows if r["key"] == key)
            row, = answer(task, f"estimate?key={key}")["data"]
            assert row["estimate"] == heavy
            if name != "icmp":
                assert heavy == rule[place], task
        for direction in DIRECTIONS:
            of_these = [n for (d, _), n in rules.items() if d == direction]
            assert tuple(map(sum, zip(*of_these))) == \
                objects[f"linnet-lab-{direction}"]

    for _ in range(5):
        now = wait_until(settled, 10, "all counted")
        try:
            judge(*now)
            break
        except AssertionError:
            # the host's own, of multicast groups, comes when it likes
            if counters() == now:
                raise
    else:
        pytest.fail("the host sends without end")
    hidden = answer(("in", "tcp", "pkt"), "totals")["data"]["hidden_bytes"]
    assert (hidden > 0) == (offloads == "on")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted is what was there, to the packet and to the byte."""
import ipaddress
import itertools
import json
import os
import re
import struct
import subprocess
import threading
import time
from collections import Counter

import pytest

from ctl import BYTE, CMS, EXACT, IN, OUT, Control, task
from lab import TimeBound, best_of_3, wait_until, within
from traffic import FLOWGEN, ip_packet, reader_of, reproducible, spray, \
    udp_packet

UDP = {"proto": 17}


def quiet(host, *ports):
    """Packets that nobody asked for are dropped behind the capture."""
    for family in (4, 6):
        host.iptables("-A", "INPUT", "-p", "udp", "-j", "DROP", family=family)
        host.iptables("-A", "INPUT", "-p", "tcp", "!", "--dport", "5002",
                      "-j", "DROP", family=family)
    host.foreign_keep()


def counted(control, ident, packets, seconds=5):
    """(totals, loss) once this many packets are counted or matched."""
    def ready():
        sums, loss = control.totals(ident)
        done = max(sums["pkt"], loss.matched.packets) >= packets
        return done and (sums, loss)
    wait_until(ready, seconds, f"{packets} packets of task {ident}")
    return control.totals(ident)


@pytest.mark.sanitize
def test_t11_overlapping_tasks(lab):
    a, b = lab.hosts
    quiet(b)
    a.sysctl("net.ipv6.conf.all.disable_ipv6", 1)  # "all" means our packets
    packets = ([udp_packet(a.ip4, b.ip4, 1, 9)] * 4000
               + [udp_packet("10.99.0.7", b.ip4, 1, 9)] * 3000
               + [ip_packet(a.ip4, b.ip4, 253, bytes(20))] * 3000)
    reproducible(11).shuffle(packets)
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=17), task(2, IN, src=a.ip4), task(3, IN))
        assert a.ping(b.ip4, 1) == 1  # both know each other's address
        before = counted(control, 3, 1)[0]["pkt"]
        spray(a, packets, 10000)
        assert counted(control, 3, before + 10000)[0]["pkt"] == before + 10000
        assert control.totals(2)[0]["pkt"] == before + 7000
        assert control.totals(1)[0]["pkt"] == 7000
        assert control.totals(1)[0]["byte"] == 7000 * 28
        for ident in (1, 2, 3):
            loss = control.totals(ident)[1]
            assert loss.matched.pair == loss.received.pair


class ExactWindows(threading.Thread):
    """Reads the `exact` table every second, so that every slot is read once.

    images: id -> [(last slot, image)] of windows that lie side by side.
    """

    def __init__(self, control, idents):
        super().__init__(daemon=True)
        self.control, self.idents = control, idents
        self.images = {i: [] for i in idents}
        self.error, self.last = None, None
        self.first = int(time.time() * 10) + 9

    def run(self):
        end = self.first
        try:
            while self.last is None or end <= self.last + 10:
                wait_until(lambda: time.time() * 10 >= end + 2, 3, "the slot")
                for i in self.idents:
                    image = self.control.image(i, EXACT)
                    if not end < image.head.slot_now <= end + 5:
                        raise TimeBound("a window was read too late")
                    self.images[i].append((end, image))
                end += 10
        except Exception as e:  # noqa: BLE001  told by sums()
            self.error = e

    def finish(self):
        self.last = int(time.time() * 10)
        self.join(10)
        if self.error:
            raise self.error

    def sums(self, ident):
        total = Counter()
        for end, image in self.images[ident]:
            rows, evicted, spilled = image.exact(end)
            assert (evicted, spilled) == (0, 0)
            total.update(rows)
            image.close()
        return total


def seeded_stream(seed, host, peer, keys, count):
    """(packets, ledger) from host to peer: Zipf keys of both families."""
    rng = reproducible(seed)
    pool, names = [], []
    for i in range(keys):
        port = 1024 + rng.randrange(60000)
        if i % 2:
            src, dst = f"10.{64 + i // 60000}.{i // 250 % 240}.{i % 250 + 1}", \
                peer.ip4
        else:
            src, dst = f"fd99::{i + 1:x}", peer.ip6
        pool.append(udp_packet(src, dst, port, 9, bytes(i % 7)))
        names.append(f"{src},{dst},{port},9,udp")
    weights = [1 / (i + 10) for i in range(keys)]
    rng.shuffle(weights)
    chosen = rng.choices(range(keys), weights, k=count)
    ledger = Counter(names[i] for i in chosen)
    size = sum(len(pool[i]) for i in chosen)
    return (pool[i] for i in chosen), ledger, size


def spray_in_step(control, streams, step=3500):
    """Sends as fast as is counted: the queue never fills, so none is missed.

    streams: host -> (direction, packets)
    """
    senders = {}
    for host, (direction, packets) in streams.items():
        senders[direction] = (host.start(
            [FLOWGEN, "spray", "/dev/stdin", 10**6], stdin=subprocess.PIPE),
            packets)
    sent = [v.packets for v in control.stats().received]
    while senders:
        for direction, (process, packets) in list(senders.items()):
            chunk = list(itertools.islice(packets, step))
            for packet in chunk:
                process.popen.stdin.write(struct.pack("=H", len(packet))
                                          + packet)
            process.popen.stdin.flush()
            sent[direction] += len(chunk)
            if len(chunk) < step:
                process.popen.stdin.close()
                assert process.wait(10) == 0, process.log()
                del senders[direction]
        wait_until(lambda: [v.packets for v in control.stats().received]
                   == sent, 5, "all counted")


@best_of_3
def test_t21_million_packets(lab):
    """Every key of the real-time table, both directions and families."""
    a, b = lab.hosts
    quiet(a)
    quiet(b)
    count, keys = 500000, 28000
    b.monitor()
    with Control(b) as control, Control(b) as windows_control:
        specs = [task(i, d, "5-tuple", proto=17, kinds=EXACT | CMS)
                 for i, d in ((1, IN), (2, OUT))]
        control.put(*specs, task(3, IN, increment=BYTE, **UDP))
        windows_control.put(*specs)
        assert a.ping(b.ip4, 1) and a.ping(b.ip6, 1)
        streams = {1: seeded_stream(21, a, b, keys, count),
                   2: seeded_stream(22, b, a, keys, count)}
        windows = ExactWindows(windows_control, (1, 2))
        windows.start()
        wait_until(lambda: time.time() * 10 > windows.first - 9, 2)
        spray_in_step(control, {a: (IN, streams[1][0]),
                                b: (OUT, streams[2][0])})
        totals = {i: counted(control, i, count) for i in (1, 2)}
        windows.finish()
        byte = control.totals(3)[0]
        for ident, (_, ledger, size) in streams.items():
            sums, loss = totals[ident]
            assert loss.matched.pair == loss.received.pair, "missed packets"
            assert (sums["pkt"], sums["byte"]) == (count, size)
            assert sums["weight"] == count and sums["unkeyed_pkt"] == 0
            assert windows.sums(ident) == ledger
            image = control.image(ident, CMS)
            points = image.points(ledger)
            image.close()
            wrong = [k for k, n in ledger.items() if points[k][1] < n]
            assert not wrong, f"count-min below the truth: {wrong[:5]}"
        assert byte["weight"] == streams[1][2]


def rule_counter(host, direction, family):
    """(packets, bytes) of the capture rule itself."""
    rows = re.findall(rf"^\[(\d+):(\d+)\] -A linnet-lab-{direction}.*NFQUEUE",
                      host.rules(family, counters=True), re.M)
    return tuple(sum(int(x) for x in column) for column in zip(*rows)) or (0, 0)


@pytest.mark.parametrize("offloads", ["on", "off"])
@pytest.mark.parametrize("family", [4, 6])
def test_t22_counts_equal_the_rule(lab, family, offloads):
    a, b = lab.hosts
    for host in (a, b):
        host.run(["ethtool", "-K", host.dev, "gso", offloads, "tso", offloads,
                  "gro", offloads])
    address = b.ip4 if family == 4 else b.ip6
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=6), task(2, OUT, proto=6),
                    task(3, IN, proto=6, family=family))
        sink = b.start([FLOWGEN, "tcprecv", address, 5002, "/dev/null"])
        wait_until(lambda: "ready" in sink.log(), 2, "the sink")
        source = a.run([FLOWGEN, "tcpsend", address, 5002, 3])
        sent = json.loads(source.stdout)["sent"]
        assert sink.wait(5) == 0

        def settled():
            return all(control.totals(i)[0]["pkt"]
                       == rule_counter(b, d, family)[0]
                       for i, d in ((1, "in"), (2, "out")))

        wait_until(settled, 5, "all counted")
        for ident, direction in ((1, "in"), (2, "out"), (3, "in")):
            rule = rule_counter(b, direction, family)
            sums, loss = control.totals(ident)
            assert (sums["pkt"], sums["byte"]) == rule, direction
            assert loss.matched.pair == loss.received.pair == rule
            assert b.nfacct()[f"linnet-lab-{direction}"] == rule
        sums = control.totals(1)[0]
    assert sums["byte"] > sent
    assert (sums["super"] > 0) == (offloads == "on"), sums


def pcap_of_sources(path, sources, hitters, share, rng):
    """IPv4/UDP packets: each source once, hitters each with this share."""
    total = round(sources / (1 - hitters * share))
    each = round(total * share)
    order = list(range(sources)) + [-1 - h for h in range(hitters)
                                    for _ in range(each)]
    rng.shuffle(order)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
    tail = bytes([10, 0, 0, 1]) + struct.pack("!HHHH", 5, 9, 8, 0)
    step = 900000 // len(order) + 1
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for i, n in enumerate(order):
            # within a second, so that the real-time table is full at its end
            f.write(struct.pack("=IIII", 1700000000, min(i * step, 999999), 28,
                                28) + head
                    + struct.pack("!I", n + 0x14000000 if n >= 0 else
                                  0x0B000000 - n) + tail)
    return len(order), each


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) * 1024


def test_t25_million_sources(lab):
    """Memory stays within what was configured, heavy keys are all found."""
    b = lab.hosts[1]
    path = lab.dir / "sources.pcap"
    hitters = 50
    count, each = pcap_of_sources(path, 10**6, hitters, 0.011,
                                  reproducible(25))
    monitor = b.monitor("--capture", f"pcap:{path}")
    found = 0
    for generation, kind in enumerate(("src", "src_dport"), 1):
        with Control(b) as control:
            control.put(task(1, IN, kind, generation=generation))
            wait_until(lambda: control.stats().finished, 60, "replayed")
            reader = reader_of(monitor)
            limit = control.stats().memory_used + (8 << 20)
            assert resident(reader) <= limit, "resident memory"
            sums, _ = control.totals(1)
            assert sums["pkt"] == count
            image = control.image(1)
            estimate, lower, upper, exact = image.hll()
            assert abs(estimate - 10**6 - hitters) < 3 * 0.0163 * 10**6
            assert lower <= estimate <= upper and not exact
            _, evicted, spilled = image.exact(image.head.slot_now - 1)
            assert evicted > 0 and spilled > 0
            rows, floor = image.topk()
            names = [f"11.0.0.{h + 1}" for h in range(hitters)]
            if kind == "src_dport":
                names = [f"{n},9" for n in names]
            for name in names:
                top, err = rows.get(name, (0, 0))
                found += top - err <= each <= top and top > count / 100
            assert floor <= 2 * count / 7168
            points = image.points(names)
            assert all(points[n][1] >= each for n in names)
            image.close()
    assert found == 100


def sources(host, numbers):
    """UDP packets to a host, one from each of these sources."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
    tail = ipaddress.ip_address(host.ip4).packed \
        + struct.pack("!HHHH", 5, 9, 8, 0)
    return (head + struct.pack("!I", 0x14000000 + n) + tail for n in numbers)


@best_of_3
def test_t25_cost_of_many_sources(lab):
    """A packet costs at most half as much again when no source comes twice."""
    a, b = lab.hosts
    quiet(b)
    monitor = b.monitor()
    count, cost = 300000, []
    with Control(b) as control:
        control.put(task(1, IN, "src", proto=17))
        assert a.ping(b.ip4, 1) == 1
        for numbers in (range(count), (n % 1000 for n in range(count))):
            before = cpu_seconds(reader_of(monitor))
            spray_in_step(control, {a: (IN, sources(b, numbers))})
            cost.append((cpu_seconds(reader_of(monitor)) - before) / count)
    print(f"{cost[0] * 1e9:.0f} ns and {cost[1] * 1e9:.0f} ns a packet")
    within(cost[0] / cost[1], 1.5, "ratio of the costs")

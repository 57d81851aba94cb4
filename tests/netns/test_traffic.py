# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's traffic goes on, whatever happens to its monitor."""
import contextlib
import os
import re
import signal
import struct
import subprocess
import time

import pytest

from ctl import IN, OUT, RULES, Control, task
from lab import (FlowRun, best_of_3, is_zombie, wait_until, within)
from traffic import (FLOWGEN, Echo, Protected, capture_works, reader_of,
                     readers_of, spray, stop_process, supervisor_of,
                     trace_buffers, udp_packet)


def tasks_in_and_out(control):
    control.put(task(1, IN), task(2, OUT, key="src_dst"))
    assert RULES[control.stats().rules] == "ok"


def at(began, seconds):
    """Waits until this time of the run."""
    wait_until(lambda: time.time() - began >= seconds, seconds + 1, "the time")


def kill_readers(monitor, control, began, times):
    """SIGKILLs the reader at these times; when, and when capture was back."""
    kills = []
    for seconds in times:
        at(began, seconds)
        old = reader_of(monitor)
        killed = time.time()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: [p for p in readers_of(monitor) if p != old], 5,
                   "another reader")
        capture_works(control)
        kills.append((killed, time.time()))
    return kills


@best_of_3
@pytest.mark.parametrize("direction", [IN, OUT], ids=["in", "out"])
def test_t01_reader_killed_under_udp(lab, direction):
    a, b = lab.hosts
    monitor = b.monitor()
    with Control(b) as control:
        tasks_in_and_out(control)
        protected = Protected(b, a, 10)
        flow = FlowRun(*((a, b) if direction == IN else (b, a)), 4000, 10)
        kills = kill_readers(monitor, control, flow.began, (3, 5, 7))
        result = flow.finish()
        protected.finish()
        _, loss = control.totals(1 if direction == IN else 2)
    for killed, back in kills:
        lost = result.lost_between(killed - 0.1, killed + 1)
        assert lost <= 64, f"{lost} lost by one kill"
        within(back - killed, 2, "capture back")
    assert result.duplicates == 0
    assert loss.matched.packets > loss.received.packets, "nothing missed?"
    within(result.gap(), 0.25, "gap")
    within(result.zero_intervals(), 0, "intervals of 100 ms at zero")


@best_of_3
def test_t01_reader_killed_under_tcp(lab):
    a, b = lab.hosts
    monitor = b.monitor()
    path = lab.dir / f"tcp-{time.time_ns()}"
    sink = b.start([FLOWGEN, "tcprecv", b.ip4, 5002, path],
                   stdout=subprocess.PIPE)
    assert sink.popen.stdout.readline() == b"ready\n"
    with Control(b) as control:
        tasks_in_and_out(control)
        source = a.start([FLOWGEN, "tcpsend", b.ip4, 5002, 10])
        kills = kill_readers(monitor, control, time.time(), (3, 5, 7))
        assert source.wait(20) == 0, source.log()
        sink.wait(5)
    words = memoryview(path.read_bytes()).cast("Q")
    times = [words[i] / 1e9 for i in range(2, len(words), 3)]
    for killed, back in kills:
        within(back - killed, 2, "capture back")
    within(max(y - x for x, y in zip(times, times[1:])), 0.25, "gap")


def outage(flow, since):
    """From this moment to the first datagram sent after it that arrived."""
    return min(r[2] for r in flow.records if r[1] > since) - since


@best_of_3
@pytest.mark.parametrize("rate", [5, 4000])
def test_t02_reader_hangs_under_udp(lab, rate):
    a, b = lab.hosts
    monitor = b.monitor()
    with Control(b) as control:
        tasks_in_and_out(control)
        protected = Protected(b, a, 3)
        flow = FlowRun(a, b, rate, 4)
        at(flow.began, 1)
        reader = reader_of(monitor)
        hung = time.time()
        stop_process(reader)
        wait_until(lambda: is_zombie(reader), 5, "the hung reader is ended")
        wait_until(lambda: readers_of(monitor), 5, "another reader")
        result = flow.finish()
        protected.finish()
        assert control.stats().reader_restarts == 1
    assert re.search(r"reader.*(progress|stalled|hung|kill)", monitor.log()), \
        monitor.log()
    # With a full queue fail-open lets the rest pass: the longest gap counts.
    late = outage(result, hung) if rate < 100 else result.gap()
    within(late, 1.0, "outage")


@best_of_3
def test_t02_reader_hangs_under_tcp(lab):
    a, b = lab.hosts
    monitor = b.monitor()
    with Control(b) as control:
        tasks_in_and_out(control)
        echoes = [Echo(a, b, 6000 + i) for i in range(10)]
        capture_works(control)
        reader = reader_of(monitor)
        stop_process(reader)
        wait_until(lambda: is_zombie(reader), 5, "the hung reader is ended")
        wait_until(lambda: readers_of(monitor), 5, "another reader")
        capture_works(control)
        slowest = max(echo.finish() for echo in echoes)
    within(slowest, 1.0, "outage")


def test_t03_all_stopped(lab):
    """Supervisor and readers stand still: the protected traffic flows."""
    a, b = lab.hosts
    monitor = b.monitor()
    with Control(b) as control:
        tasks_in_and_out(control)
        protected = Protected(b, a, 10)
        supervisor, reader = supervisor_of(monitor), reader_of(monitor)
        stop_process(supervisor)
        stop_process(reader)
        try:
            # What is not protected waits in the queue: the control.
            assert a.ping(b.ip4, count=3) == 0
            protected.finish()
        finally:
            for pid in (reader, supervisor):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def test_t07_administrators_drop_holds(lab):
    """An accept verdict must not skip DROP in the filter table."""
    a, b = lab.hosts
    for family, proto in ((4, "icmp"), (6, "icmpv6")):
        b.iptables("-A", "INPUT", "-p", proto, *(
            ["--icmpv6-type", "echo-request"] if family == 6 else []),
            "-j", "DROP", family=family)
    b.foreign_keep()
    # The control: a queue in the filter table does skip it.
    rule = ("INPUT", "-p", "icmp", "-j", "NFQUEUE", "--queue-num", "9",
            "--queue-bypass")
    assert a.ping(b.ip4, 3) == 0
    b.iptables("-I", *rule)
    assert a.ping(b.ip4, 3) == 3
    b.iptables("-D", *rule)

    monitor = b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=1), task(2, IN, proto=58), task(3, IN))
        assert a.ping(b.ip4, 30) == 0, "with a reader"
        assert a.ping(b.ip6, 30) == 0, "with a reader"
        assert control.totals(1)[0]["pkt"] == 30
        assert control.totals(2)[0]["pkt"] >= 30

        supervisor, reader = supervisor_of(monitor), reader_of(monitor)
        stop_process(supervisor)
        stop_process(reader)
        flood = [udp_packet(a.ip4, b.ip4, 9, 9)] * 12000
        spray(a, flood, 40000)
        assert a.ping(b.ip4, 30) == 0, "overloaded"
    monitor.kill_tree()
    assert "NFQUEUE" in b.rules(4)
    assert a.ping(b.ip4, 30) == 0, "without a reader"
    b.monitor().stop()


QUEUE_SUBSYS, PACKET, VERDICT, CONFIG, BATCH = 3, 0, 1, 2, 3
ATTR_VERDICT, ATTR_PAYLOAD, CFG_CMD, CMD_UNBIND = 2, 10, 1, 2


def netlink_messages(data):
    """(type, attributes) of the queue messages in a sent buffer."""
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        if length < 20 or length > len(data):
            return
        if kind >> 8 == QUEUE_SUBSYS:
            attributes, rest = {}, data[20:length]
            while len(rest) >= 4:
                n, name = struct.unpack_from("=HH", rest)
                if n < 4:
                    break
                attributes[name & 0x7FFF] = rest[4:n]
                rest = rest[(n + 3) & ~3:]
            yield kind & 0xFF, attributes
        data = data[(length + 3) & ~3:]


def test_t08_every_netlink_message(lab):
    a, b = lab.hosts
    trace = lab.dir / "trace"
    b.monitor(prefix=["strace", "-f", "-qq", "-e", "write=all", "-e",
                      "trace=sendto,sendmsg,write,writev", "-o", trace],
              seconds=20)
    with Control(b) as control:
        control.put(task(1, IN, proto=17))
        flow = FlowRun(a, b, 5000, count=10000).finish()
        assert flow.lost == 0
        wait_until(lambda: control.totals(1)[0]["pkt"] == 10000, 10,
                   "10,000 packets counted")
    assert not lab.stop_all()
    kinds = {}
    for data in trace_buffers(trace):
        for kind, attributes in netlink_messages(data):
            kinds[kind] = kinds.get(kind, 0) + 1
            assert ATTR_PAYLOAD not in attributes, "NFQA_PAYLOAD sent"
            if kind in (VERDICT, BATCH):
                verdict, = struct.unpack_from("!I", attributes[ATTR_VERDICT])
                assert verdict == 1, f"verdict {verdict}, not NF_ACCEPT"
            elif CFG_CMD in attributes:
                assert attributes[CFG_CMD][0] != CMD_UNBIND
    assert kinds.get(CONFIG, 0) >= 1, kinds
    assert kinds.get(BATCH, 0) + kinds.get(VERDICT, 0) > 100, kinds
    assert PACKET not in kinds


def test_t04_overload(lab, hooks_build):
    """A reader that is too slow: nothing is lost, and what it missed known."""
    a, b = lab.hosts
    b.monitor(build=hooks_build,
              env=dict(os.environ, LINNET_HOOK_DELAY_US="120"))
    with Control(b) as control:
        control.put(task(1, IN, proto=17))
        flow = FlowRun(a, b, 15000, 5).finish(settle=5)
        assert flow.sent == 75000
        assert flow.lost == 0

        def settled():
            sums, loss = control.totals(1)
            return loss.matched.packets == 75000 and (sums, loss)

        sums, loss = wait_until(settled, 2, "all matched")
        end = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > end, 2)
        sums, loss = control.totals(1)
    missed = loss.matched.packets - loss.received.packets
    assert missed > 0, "not overloaded: the test shows nothing"
    assert sums["pkt"] == loss.received.packets
    assert sums["byte"] == loss.received.bytes
    assert loss.matched.bytes - sums["byte"] == missed * (64 + 28)


def test_missed_of_a_task_put_under_overload(lab, hooks_build):
    """It may say more than was missed since, never less."""
    a, b = lab.hosts
    b.iptables("-A", "INPUT", "-p", "udp", "-j", "DROP")
    b.foreign_keep()
    b.monitor(build=hooks_build,
              env=dict(os.environ, LINNET_HOOK_DELAY_US="120"))
    count, waiting = 30000, 8192 + 128

    def spray_from(port, count):
        path = lab.dir / f"spray-{port}"
        packet = udp_packet(a.ip4, b.ip4, port, 9)
        path.write_bytes((struct.pack("=H", len(packet)) + packet) * count)
        return a.start([FLOWGEN, "spray", path, 15000])

    def settled(ident):
        """(counted, missed packets, missed bytes), when nothing waits."""
        sums, loss = control.totals(ident)
        if control.stats().queue_depth:
            return None
        return sums["pkt"], loss.matched.packets - loss.received.packets, \
            loss.matched.bytes - loss.received.bytes

    with Control(b) as control:
        assert a.ping(b.ip4, 1) == 1
        control.put(task(1, IN, proto=17))
        early = spray_from(1, 90000)
        wait_until(lambda: (lambda v: v.matched.packets
                            > v.received.packets + 1.3 * waiting)(
                                control.totals(1)[1]), 10, "an overload")
        before = b.nfacct()["linnet-lab-in"][0]
        control.put(task(2, IN, "sport", proto=17))
        early.signal(signal.SIGTERM)
        late = spray_from(2, count)
        early.wait()
        between = b.nfacct()["linnet-lab-in"][0] - before
        assert late.wait(30) == 0, late.log()
        _, missed, size = wait_until(lambda: settled(2), 10, "all counted")
        image = control.image(2)
        truth = count - image.points(["2"])["2"][1]
        image.close()
        assert truth > waiting / 2, "not overloaded: the test shows nothing"
        assert truth <= missed <= truth + between + waiting / 2
        assert truth * 28 <= size <= (truth + between + waiting) * 28

        # an overload of the past is nobody's any more
        control.put(task(3, IN, proto=17))
        spray(a, [udp_packet(a.ip4, b.ip4, 3, 9)] * 1000, 2000)
        wait_until(lambda: settled(3) == (1000, 0, 0), 5, "1,000, none missed")

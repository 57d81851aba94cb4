# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of features: real traffic, real windows, one reader or several."""
import errno
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest

import ctl
from ctl import (CLOCK, FEATURES, IN, MISSED, OVERFLOW, PARTIAL, PKT, Control,
                 Refused, features, task)
from lab import best_of_3, wait_until, within
from traffic import ip_packet, readers_of, spray, udp_packet

WINDOW_S = 10
SHORT_S = 4             # of a build with hooks
BUSY_S = 6              # of tests that fill it
UDP, TCP = 17, 6
BYTES = 3_000_000
# counters of the packets that send_known() sends
KNOWN = {
    "records": 4, "src_ip_private": 4, "dst_ip_private": 4,
    "sport_notreserved": 4, "dport_dns": 1, "dport_https": 1,
    "dport_netbios": 1, "dport_reserved": 3, "dport_notreserved": 1,
    "protocol_udp": 4, "srctos_zero": 4, "in_npackets_low": 2,
    "in_npackets_medium": 1, "out_npackets_verylow": 4,
    "in_nbytes_medium": 1, "out_nbytes_verylow": 4, "in_interface_2": 3,
    "in_interface_65535": 1, "out_interface_2": 1,
    "out_interface_65535": 3, "h_flows_out_new": 1, "h_flows_in_new": 3,
    "h_bytes_out": 3200, "h_bytes_in": 312, "h_udp_share": 1000,
    "h_dst_ips": 1, "h_dst_ports": 1, "h_src_ips_in": 2,
    "h_max_ports_per_peer": 1, "h_max_flows_per_peer": 3,
    "h_top_peer_share": 959, "h_entropy_dports": 1000, "h_dport_quic": 1,
    "h_dport_rdp": 1}


@pytest.fixture
def short_build(hooks_build, monkeypatch):
    """The build with short windows, whose images are read by its own tool."""
    monkeypatch.setattr(ctl, "READIMAGE", hooks_build / "tests/netns/readimage")
    return hooks_build


def interval(window_s=SHORT_S):
    return int(time.time() // window_s)


def wait_for(k, window_s=SHORT_S):
    """Waits until interval k has begun."""
    wait_until(lambda: interval(window_s) >= k, 3 * window_s, f"interval {k}")


def next_window(window_s=SHORT_S):
    """Waits for the beginning of a window; its number."""
    k = interval(window_s) + 1
    wait_for(k, window_s)
    return k


def nonzero(row):
    return {k: v for k, v in row.items() if v}


def send_known(a, b):
    """Packets that b must count as KNOWN says."""
    spray(a, [udp_packet(a.ip4, b.ip4, 1111, 53)] * 5
          + [udp_packet(a.ip6, b.ip6, 2222, 443)] * 3
          + [udp_packet(a.ip4, b.ip4, 1111, 137)], 1000)
    spray(b, [udp_packet(b.ip4, a.ip4, 40000, 3389, bytes(100))] * 25, 1000)


def flows_known(a, b, flows):
    """The same as a list of flows."""
    found = {f[0]: (int(f[1]), int(f[2]), f[3]) for f in flows}
    assert found == {
        f"{a.ip4},{b.ip4},1111,53,udp": (5, 140, "0"),
        f"{a.ip4},{b.ip4},1111,137,udp": (1, 28, "0"),
        f"{a.ip6},{b.ip6},2222,443,udp": (3, 144, "0"),
        f"{b.ip4},{a.ip4},40000,3389,udp": (25, 3200, "1")}
    dns, = (f for f in flows if f[0].endswith(",53,udp"))
    assert {"dport_dns", "h_flows_in_new", "h_bytes_in"} <= set(dns[4:])


def transfer(source, sink, port):
    """One TCP connection with BYTES of data; segments that the source sent, as
    its kernel counts them (tcpi_segs_out of struct tcp_info)."""
    server = sink.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind((sink.ip4, port))
    server.listen()

    def receive():
        conn, _ = server.accept()
        with conn:
            while conn.recv(1 << 20):
                pass

    thread = threading.Thread(target=receive)
    thread.start()
    with source.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.connect((sink.ip4, port))
        s.sendall(bytes(BYTES))
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    thread.join(10)
    server.close()
    return struct.unpack_from("I", info, 136)[0]


def offloads(hosts, state):
    for host in hosts:
        host.run(["ethtool", "-K", host.dev, "gso", state, "tso", state,
                  "gro", state])


def segments(flows, port):
    """Packets of the flow to this port, as the host sent them."""
    sent = [f for f in flows if f[0].split(",")[3] == str(port)]
    assert len(sent) == 1, flows
    return int(sent[0][1])


@pytest.mark.parametrize("readers", [1, 2])
def test_windows(lab, short_build, readers):
    a, b = lab.hosts
    b.run(["ip", "route", "add", "default", "via", a.ip4])
    b.run(["ip", "-6", "route", "add", "default", "via", a.ip6])
    monitor = b.monitor("--readers", readers, build=short_build)
    with Control(b) as control:
        control.put(features(1, SHORT_S, proto=UDP),
                    features(2, SHORT_S, proto=TCP))
        first = interval()
        with pytest.raises(Refused) as refused:
            control.window(1, first - 1)
        assert refused.value.errno == errno.ENODATA
        k = next_window()

        # one window with packets that are known
        send_known(a, b)
        offloads(lab.hosts, "on")
        sent = transfer(b, a, 5001)
        assert interval() == k, "too slow for a window"

        # one without, but for the same connection in another form
        wait_for(k + 1)
        row, flows = control.row(1, k)
        tcp_row, tcp_flows = control.row(2, k)
        offloads(lab.hosts, "off")
        sent_plain = transfer(b, a, 5002)
        assert interval() == k + 1, "too slow for a window"
        partial, _ = control.row(1, first)

        # and one in which a reader dies, once the other row was read
        wait_for(k + 2)
        empty, none = control.row(1, k + 1)
        plain_row, plain_flows = control.row(2, k + 1)
        reply, images = control.window(1, k)
        assert (reply.n_images, reply.readers) == (readers, readers)
        assert reply.has_loss and \
            reply.loss.matched.packets == reply.loss.received.packets
        for image in images:
            image.close()
        old = readers_of(monitor)
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: len(set(readers_of(monitor)) - set(old)) == 1, 5,
                   "another reader")
        spray(a, [udp_packet(a.ip4, b.ip4, 1111, 53)], 1000)
        wait_for(k + 3)
        after, _ = control.row(1, k + 2)
        if readers > 1:
            assert control.row(1, k)[0]["quality"] & PARTIAL
        else:
            with pytest.raises(Refused):
                control.window(1, k)

    assert partial["quality"] == PARTIAL
    row.pop("h_regular_flows")  # the clock of a batch says little of 1 ms
    assert nonzero(row) == {"interval": k, **KNOWN}
    assert nonzero(empty) == {"interval": k + 1} and not none
    flows_known(a, b, flows)

    # what travelled is counted, not what the queue saw
    assert sent > BYTES / 1448 and sent_plain > BYTES / 1448
    assert abs(segments(tcp_flows, 5001) - sent) < sent * 0.02
    assert abs(segments(plain_flows, 5002) - sent_plain) < sent_plain * 0.02
    for r in (tcp_row, plain_row):
        assert (r["h_handshake_ok"], r["h_flows_out_new"]) == (1, 1)
        assert r["in_npackets_veryhigh"] >= 1 and r["quality"] == 0
    assert after["quality"] & PARTIAL and not after["quality"] & CLOCK


def test_missed(lab, short_build):
    """A window in which packets passed unseen says so, with a number."""
    a, b = lab.hosts
    b.monitor(build=short_build, env={**os.environ,
                                      "LINNET_HOOK_DELAY_US": "200"})
    with Control(b) as control:
        control.put(features(1, BUSY_S, proto=UDP), task(2, IN, proto=UDP))
        k = next_window(BUSY_S)
        spray(a, [udp_packet(a.ip4, b.ip4, 1111, 53)] * 25000, 1000000)
        wait_for(k + 1, BUSY_S)
        reply, images = control.window(1, k)
        row, flows = control.row(1, k)
        for image in images:
            image.close()
    loss = reply.loss
    missed = loss.matched.packets - loss.received.packets
    assert reply.has_loss and 15000 < loss.matched.packets <= 25000, loss
    # the queue was empty again at the end
    counted = int(flows[0][1])
    assert abs(missed - (loss.matched.packets - counted)) < 100, (loss, counted)
    assert row["quality"] == MISSED


@best_of_3
def test_closing_keeps_nobody_waiting(lab, short_build):
    """Packets pass as quickly while a full table is being closed."""
    a, b = lab.hosts
    b.monitor(build=short_build)
    with Control(b) as control:
        control.put(features(1, BUSY_S))
        k = next_window(BUSY_S)
        spray(a, [udp_packet(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", b.ip4,
                             1111, 9) for i in range(70000)], 40000)
        assert interval(BUSY_S) == k, "too slow for a window"
        end = (k + 1) * BUSY_S
        wait_until(lambda: time.time() > end - 1, BUSY_S, "the end")
        text = a.run(["ping", "-q", "-c", 1000, "-i", 0.002, "-W", 1,
                      b.ip4]).stdout
        assert interval(BUSY_S) == k + 1
        row, flows = control.row(1, k)
    assert row["quality"] & OVERFLOW and len(flows) == 8192
    assert row["records"] == 65536 + row["overflow"] > 69000
    assert " 0% packet loss" in text
    # nobody waits for the 65,536; the rest is the machine's own
    within(float(re.search(r"= [\d.]+/[\d.]+/([\d.]+)/", text)[1]), 8,
           "slowest answer, ms")


def test_requests(lab):
    """What the monitor does not take, and what a task is no good for."""
    _, b = lab.hosts
    b.monitor()
    with Control(b) as control:
        for change in ({"window_ms": 15001}, {"window_ms": 7000},
                       {"window_ms": 0}, {"semantics": 0}, {"both": 2},
                       {"increment": PKT}, {"key": 1}, {"records_log2": 17},
                       {"kinds": FEATURES | 1}, {"reserved": 1}):
            spec = features(3)
            for name, value in change.items():
                setattr(spec, name, value)
            with pytest.raises(Refused) as refused:
                control.put(spec)
            assert refused.value.errno == errno.EINVAL, change
        control.put(features(1), task(2, IN))
        with pytest.raises(Refused) as refused:
            control.read(1)
        assert refused.value.errno == errno.EINVAL
        with pytest.raises(Refused) as refused:
            control.window(2, interval(WINDOW_S))
        assert refused.value.errno == errno.EINVAL
        for what in (0, 4):
            with pytest.raises(Refused) as refused:
                control.window(1, interval(WINDOW_S), what)
            assert refused.value.errno == errno.EINVAL
        control.delete(1)
        with pytest.raises(Refused) as refused:
            control.window(1, interval(WINDOW_S))
        assert refused.value.errno == errno.ENOENT
        assert control.list() == [(2, 1)]


def test_replay(lab):
    """Windows of a capture are those of its packets' time."""
    _, b = lab.hosts
    begin = 1_700_000_000  # a multiple of the window
    path = lab.dir / "windows.pcap"
    syn = struct.pack("!HHQBBHHH", 40000, 443, 0, 0x50, 2, 9, 0, 0)
    packets = [(0, udp_packet("10.0.0.9", "10.0.0.2", 5, 6)),
               (9, udp_packet("10.0.0.9", "10.0.0.2", 5, 6)),
               (10, ip_packet("8.8.8.8", "10.0.0.2", TCP, syn)),
               (45, udp_packet("fd00::9", "fd00::2", 5, 6))]
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for at, data in packets:
            f.write(struct.pack("<IIII", begin + at, 0, len(data), len(data)))
            f.write(data)
    b.monitor("--capture", f"pcap:{path}")
    with Control(b) as control:
        control.put(features(1, records_log2=8))
        wait_until(lambda: control.stats().finished, 10, "replayed")
        k = begin // WINDOW_S
        rows = [control.row(1, k + i)[0] for i in range(5)]
        with pytest.raises(Refused) as refused:
            control.window(1, k + 5)
        assert refused.value.errno == errno.ENODATA
    assert [r["records"] for r in rows] == [1, 1, 0, 0, 1]
    assert [r["quality"] for r in rows] == [0, 0, 0, 0, PARTIAL]
    assert rows[0]["h_bytes_in"] == 56
    assert (rows[1]["tcpflags_SYN"], rows[1]["src_ip_public"]) == (1, 1)
    assert nonzero(rows[2]) == {"interval": k + 2}
    # a file does not say which interface it was
    assert not any(r["in_interface_2"] + r["in_interface_3"] for r in rows)

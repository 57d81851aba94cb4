# SPDX-License-Identifier: GPL-2.0-or-later
"""Every capture through the real monitor, against an independent reader."""
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pcapread
from ctl import BYTE, IN, KEYS, OUT, PKT, TOPK, Control, read_topk, task
from lab import TREE, Lab, wait_until
from traffic import ip_packet, reproducible, udp_packet

CAPTURES = Path(os.environ.get("LINNET_CAPTURES",
                               TREE.parent / "shared/data/pcap"))
TASKS = [(key, inc) for key in KEYS[1:] for inc in (PKT, BYTE)]


def replay(host, path, instance):
    """{(key type, increment, direction): (rows, totals)} or an exit status."""
    monitor = host.monitor("--capture", f"pcap:{path}", instance=instance,
                           wait=False)
    if not monitor.wait_ready(check=False):
        return monitor.wait(), monitor.log()
    result = {}
    with Control(host, instance) as control:
        for direction in (IN, OUT):
            specs = [task(i + 1, direction, key, inc, kinds=TOPK,
                          generation=direction + 1)
                     for i, (key, inc) in enumerate(TASKS)]
            control.put(*specs)
            wait_until(lambda: control.stats().finished, 30, "replayed")
            images = [control.image(s.id, TOPK) for s in specs]
            rows = read_topk(images)
            for (key, inc), image, row in zip(TASKS, images, rows):
                result[key, inc, direction] = (row, image.totals)
                image.close()
    monitor.stop()
    return 0, result


def compare(result, rows, name):
    """Findings, one line each."""
    for (kind, inc, direction), ((table, floor), totals) in result.items():
        want = pcapread.truth(rows, kind, direction)
        truth = want.packets if inc == PKT else want.bytes
        where = f"{name}: {kind} {'pkt' if inc == PKT else 'byte'} {direction}"
        got = {k: upper for k, (upper, err) in table.items()}
        if floor or any(err for _, err in table.values()):
            yield f"{where}: the table is not exact"
        for k in sorted(set(got) | set(truth)):
            if got.get(k, 0) != truth.get(k, 0):
                yield f"{where}: {k}: {got.get(k, 0)}, not {truth.get(k, 0)}"
        figures = ((totals.pkt, totals.byte), want.unkeyed, totals.fragment)
        expect = ((want.packets.total(), want.bytes.total()),
                  (totals.unkeyed_pkt, totals.unkeyed_byte), want.fragments)
        if figures != expect:
            yield f"{where}: totals {figures}, not {expect}"


def check_file(job):
    host, path, number = job
    try:
        rows = pcapread.measured(path)
    except pcapread.Unreadable as e:
        rows = e
    status, result = replay(host, path, f"p{number}")
    if isinstance(rows, Exception):
        return [] if status == 64 else [
            f"{path.name}: exit {status} for a file that is not one ({rows})"]
    if status:
        return [f"{path.name}: exit {status}: {result}"]
    return list(compare(result, rows, path.name))


def check_files(paths):
    """Two at a time, each host with an instance for every file."""
    with Lab(2) as lab:
        jobs = [(lab.hosts[i % 2], p, i) for i, p in enumerate(paths)]
        with ThreadPoolExecutor(2) as pool:
            halves = pool.map(lambda h: [check_file(j) for j in jobs[h::2]],
                              (0, 1))
            return [x for half in halves for found in half for x in found]


@pytest.mark.parametrize("folder", [".", "mixed", "link"])
def test_captures(folder):
    """Captures of others: hundreds of protocols, odd link layers."""
    if not CAPTURES.is_dir():
        pytest.skip(f"no captures: {CAPTURES} (LINNET_CAPTURES) is absent")
    paths = sorted(p for p in (CAPTURES / folder).iterdir()
                   if p.suffix in (".pcap", ".pcapng", ".cap"))
    assert paths
    found = check_files(paths)
    assert not found, "\n".join(found[:100])


# ---- captures of our own ------------------------------------------------

def link_headers(packet, rng):
    """The packet behind each link layer: (link type, frame)."""
    v4 = packet[0] >> 4 == 4
    kind = struct.pack("!H", 0x0800 if v4 else 0x86DD)
    mac, tag = bytes(12), struct.pack("!H", rng.randrange(4096))
    family = 2 if v4 else 10
    out = struct.pack("!H", rng.choice((0, 4)))
    return [
        (1, mac + kind + packet + bytes(max(0, 46 - len(packet)))),
        (1, mac + b"\x81\0" + tag + kind + packet),
        (1, mac + b"\x88\xa8" + tag + b"\x81\0" + tag + kind + packet),
        (1, mac + b"\x08\x06" + packet),
        (101, packet), (12, packet), (228 if v4 else 229, packet),
        (0, struct.pack("=I", family) + packet),
        (0, struct.pack(">I", 2 if v4 else 30) + packet),
        (108, struct.pack("!I", 2 if v4 else 24) + packet),
        (113, out + bytes(12) + kind + packet),
        (276, kind + bytes(8) + out[1:] + bytes(9) + packet),
        (9, b"\xff\x03" + (b"\0\x21" if v4 else b"\0\x57") + packet),
        (9, (b"\0\x21" if v4 else b"\0\x57") + packet),
        (104, b"\x0f\0" + kind + packet),
        (50, b"\x0f\0" + kind + packet),
        (147, packet),
    ]


def odd_packets(rng, count):
    """Valid ones, and each kind of damage."""
    def address(v4):
        if v4:
            return f"10.{rng.randrange(3)}.0.{rng.randrange(1, 5)}"
        return rng.choice(["fd00::"] * 9 + ["::ffff:"]) + \
            f"{rng.randrange(1, 5):x}" + rng.choice(("", ":0"))

    for _ in range(count):
        v4 = rng.random() < 0.5
        src, dst = address(v4), address(v4)
        port = rng.choice((22, 53, 80, 8000, 40000))
        body = rng.randbytes(rng.choice((0, 1, 4, 30, 1400, 2000)))
        proto = rng.choice((1, 6, 17, 33, 47, 50, 51, 58, 132, 136, 255))
        if proto == 17:
            packet = udp_packet(src, dst, port, 9, body)
        else:
            head = struct.pack("!HH", port, rng.randrange(1, 9))
            flags = rng.choice((2, 16, 18, 4))
            head += bytes(8) + struct.pack("!BBHHH", 0x50, flags, 9, 0, 0)
            packet = ip_packet(src, dst, proto, head + body)
        packet = bytearray(packet)
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            packet[rng.randrange(min(48, len(packet)))] = rng.randrange(256)
        if rng.random() < 0.1:  # as a super-packet says it
            packet[2 if v4 else 4:4 if v4 else 6] = bytes(2)
        if rng.random() < 0.2:  # a fragment, first or later
            if v4:
                packet[6:8] = struct.pack("!H", rng.choice((0x2000, 7, 0x2007)))
            else:
                packet[40:40] = struct.pack(
                    "!BBHI", packet[6], 0, rng.choice((0, 1, 8, 9)), 7)
                packet[4:7] = struct.pack("!HB", len(packet) - 40, 44)
        if not v4 and rng.random() < 0.3:  # a chain of extension headers
            chain = rng.choice((1, 3, 19, 20, 21))
            packet[40:40] = (bytes([60, 0, 1, 4, 0, 0, 0, 0]) * (chain - 1)
                             + bytes([packet[6], 0, 1, 4, 0, 0, 0, 0]))
            packet[4:7] = struct.pack("!HB", len(packet) - 40, 60)
        yield bytes(packet)


def write_pcap(path, link, frames, end, magic):
    with open(path, "wb") as f:
        f.write(struct.pack(end + "IHHiIII", magic, 2, 4, 0, 0, 65535, link))
        for i, (data, wire) in enumerate(frames):
            f.write(struct.pack(end + "IIII", 1700000000, i, len(data), wire))
            f.write(data)


def write_pcapng(path, link, frames, end):
    def block(kind, body):
        body += bytes(-len(body) % 4)
        size = struct.pack(end + "I", len(body) + 12)
        return struct.pack(end + "I", kind) + size + body + size

    with open(path, "wb") as f:
        f.write(block(0x0A0D0D0A, struct.pack(end + "IHHq", 0x1A2B3C4D, 1, 0,
                                              -1)))
        f.write(block(1, struct.pack(end + "HHI", link, 0, 65535)))
        f.write(block(0x0BAD, b"a block that nobody knows"))
        for i, (data, wire) in enumerate(frames):
            f.write(block(6, struct.pack(end + "IIIII", 0, 0, i, len(data),
                                         wire) + data))


def test_ports_that_are_not_measured(lab):
    """The two options hold for a replay as they do for the rules."""
    def tcp(port, flags):
        return ip_packet("10.0.0.1", "10.0.0.2", 6, struct.pack(
            "!HHQBBHHH", 40000, port, 0, 0x50, flags, 9, 0, 0))

    syn, ack = 2, 16
    rows = [(22, ack), (8000, ack), (2222, syn), (2222, ack), (8002, syn)]
    path = lab.dir / "ports.pcap"
    write_pcap(path, 101, [(tcp(*r), 40) for r in rows], "<", 0xA1B2C3D4)
    host = lab.hosts[1]
    host.monitor("--capture", f"pcap:{path}", "--management-port", 2222,
                 "--agent-port", 8002)
    with Control(host) as control:
        control.put(task(1, IN, "dport", kinds=TOPK))
        wait_until(lambda: control.stats().finished, 5, "replayed")
        image = control.image(1, TOPK)
        (table, _), = read_topk([image])
        image.close()
    assert {k: upper for k, (upper, _) in table.items()} == {
        "22": 1, "8000": 1, "2222": 1}


def test_generated_captures(tmp_path):
    """Each link layer and file format, valid packets and damaged ones."""
    rng = reproducible(20)
    files = {}
    for packet in odd_packets(rng, 600):
        for i, (link, frame) in enumerate(link_headers(packet, rng)):
            cut = len(frame) if rng.random() < 0.7 else \
                rng.randrange(len(frame) + 1)
            files.setdefault((link, i), []).append((frame[:cut], len(frame)))
    formats = [("pcap", "<", 0xA1B2C3D4), ("pcap", ">", 0xA1B2C3D4),
               ("pcap", "<", 0xA1B23C4D), ("pcap", ">", 0xA1B23C4D),
               ("pcapng", "<", 0), ("pcapng", ">", 0)]
    paths = []
    for n, ((link, i), frames) in enumerate(sorted(files.items())):
        suffix, end, magic = formats[n % len(formats)]
        paths.append(tmp_path / f"link{link}-{i}.{suffix}")
        if suffix == "pcap":
            write_pcap(paths[-1], link, frames, end, magic)
        else:
            write_pcapng(paths[-1], link, frames, end)
    (tmp_path / "empty.pcap").write_bytes(b"")
    (tmp_path / "text.pcap").write_text("not a capture file, but long enough")
    paths += [tmp_path / "empty.pcap", tmp_path / "text.pcap"]
    found = check_files(paths)
    assert not found, "\n".join(found[:100])

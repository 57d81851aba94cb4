# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files read with nothing but the definitions of their formats.

The truth that a replay is compared with: pcap and pcapng, link layers, IP,
keys.  Written from the formats' and protocols' documents; slow and plain.
"""
import ipaddress
import struct
from collections import Counter
from dataclasses import dataclass

IN, OUT = 0, 1
MTU = 1500  # what is longer is taken for a super-packet
AGENT_PORT = 8000


class Unreadable(Exception):
    """Not a capture file, or one of a version nobody reads."""


# ---- files: (link type, captured bytes, length on the wire) --------------

MAGIC = {b"\xa1\xb2\xc3\xd4": ">", b"\xd4\xc3\xb2\xa1": "<",
         b"\xa1\xb2\x3c\x4d": ">", b"\x4d\x3c\xb2\xa1": "<"}


def read_pcap(data):
    end = MAGIC[data[:4]]
    if len(data) < 24:
        raise Unreadable("short header")
    major, minor = struct.unpack_from(end + "HH", data, 4)
    if (major, minor) not in ((2, 4), (2, 3), (2, 2), (2, 1), (2, 0)):
        raise Unreadable(f"version {major}.{minor}")
    link = struct.unpack_from(end + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at + 16 <= len(data):
        captured, length = struct.unpack_from(end + "II", data, at + 8)
        at += 16
        if at + captured > len(data):
            return
        yield link, data[at:at + captured], length
        at += captured


def read_pcapng(data):
    end, links, at = "<", [], 0
    while at + 12 <= len(data):
        kind, = struct.unpack_from(end + "I", data, at)
        if kind == 0x0A0D0D0A:
            order = data[at + 8:at + 12]
            if order not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                raise Unreadable("byte-order magic")
            end, links = (">" if order[0] == 0x1A else "<"), []
        total, = struct.unpack_from(end + "I", data, at + 4)
        if total < 12 or total % 4 or at + total > len(data):
            return
        body = data[at + 8:at + total - 4]
        if kind == 1:
            link, _, snap = struct.unpack_from(end + "HHI", body)
            if links and links[0] != (link, snap):
                return  # one reader, one link layer
            links.append((link, snap))
        elif kind in (2, 6):  # packet (obsolete), enhanced packet
            form = "HHIIII" if kind == 2 else "IIIII"
            number, *_, captured, length = struct.unpack_from(end + form, body)
            if number >= len(links) or 20 + captured > len(body):
                return
            yield links[number][0], body[20:20 + captured], length
        elif kind == 3:  # simple packet
            length, = struct.unpack_from(end + "I", body)
            snap = links[0][1] or length
            yield links[0][0], body[4:4 + min(length, snap)], length
        at += total


def read_file(path):
    """List of (link type, captured bytes, length on the wire)."""
    data = path.read_bytes()
    if data[:4] in MAGIC:
        return list(read_pcap(data))
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        return list(read_pcapng(data))
    raise Unreadable("magic")


# ---- link layers: (direction, bytes of the link header), or None ---------

def ethertype(frame, at, kind):
    tags = 0
    while kind in (0x8100, 0x88A8, 0x9100) and tags < 4:
        if len(frame) < at + 4:
            return None
        kind, = struct.unpack_from("!H", frame, at + 2)
        at, tags = at + 4, tags + 1
    return at if kind in (0x0800, 0x86DD) else None


def ethernet(f):
    return IN, ethertype(f, 14, f[12] << 8 | f[13]) if len(f) >= 14 else None


def raw(f):
    return IN, 0


def null(f):
    """The family in the writer's byte order; AF_INET6 differs by system."""
    families = {struct.unpack(o + "I", f[:4])[0] for o in "<>"
                if len(f) >= 4}
    return IN, 4 if families & {2, 10, 24, 28, 30} else None


def sll(f):
    if len(f) < 16:
        return IN, None
    return (OUT if f[:2] == b"\0\4" else IN,
            ethertype(f, 16, f[14] << 8 | f[15]))


def sll2(f):
    if len(f) < 20:
        return IN, None
    return OUT if f[10] == 4 else IN, ethertype(f, 20, f[0] << 8 | f[1])


def hdlc(f):
    return IN, ethertype(f, 4, f[2] << 8 | f[3]) if len(f) >= 4 else None


def ppp(f):
    if f[:1] in (b"\x0f", b"\x8f"):
        return hdlc(f)
    at = 2 if f[:2] == b"\xff\x03" else 0
    return IN, at + 2 if f[at:at + 2] in (b"\0\x21", b"\0\x57") else None


# by link type as it stands in files
LINKS = {0: null, 1: ethernet, 9: ppp, 12: raw, 14: raw, 50: ppp, 101: raw,
         104: hdlc, 108: null, 113: sll, 228: raw, 229: raw, 276: sll2}


# ---- IP -----------------------------------------------------------------

@dataclass
class Packet:
    src: str = ""
    dst: str = ""
    sport: int | None = None
    dport: int | None = None
    proto: int = 0
    tcp_flags: int | None = None
    fragment: bool = False
    keyed: bool = False
    length: int = 0


def ip_length(data, wire):
    """What a kernel makes of it: padding behind the datagram is cut off."""
    total = wire
    if len(data) >= 20 and data[0] >> 4 == 4:
        total = data[2] << 8 | data[3]
        total = wire if total < 20 else total
    elif len(data) >= 40 and data[0] >> 4 == 6:
        payload = data[4] << 8 | data[5]
        if payload or data[6] != 0:
            total = 40 + payload
    return min(total, wire)


PORT_PROTOCOLS = (6, 17, 33, 132, 136)


def transport(p, data):
    """data: from the transport header to the end of what is known."""
    if p.proto in PORT_PROTOCOLS:
        if len(data) < 4:
            return False
        p.sport, p.dport = struct.unpack_from("!HH", data)
        if p.proto == 6 and len(data) >= 14:
            p.tcp_flags = data[13]
    return True


def ipv4(p, data):
    if len(data) < 20:
        return False
    p.src, p.dst = (str(ipaddress.IPv4Address(data[i:i + 4]))
                    for i in (12, 16))
    p.proto = data[9]
    header, total = (data[0] & 15) * 4, data[2] << 8 | data[3]
    if total == 0 and p.length > MTU:
        total = p.length  # a super-packet, which the field cannot say
    if header < 20 or header > len(data) or total < header \
            or total > p.length:
        return False
    place = (data[6] << 8 | data[7]) & 0x3FFF
    p.fragment = place != 0
    return place & 0x1FFF != 0 or transport(p, data[header:total])


def ipv6(p, data):
    if len(data) < 40:
        return False
    addresses = [ipaddress.IPv6Address(data[i:i + 16]) for i in (8, 24)]
    if any(a.ipv4_mapped for a in addresses):
        return False
    p.src, p.dst = map(str, addresses)
    total, p.proto, at = 40 + (data[4] << 8 | data[5]), data[6], 40
    if total == 40 and p.length > MTU:
        total = p.length
    if total > p.length:
        return False
    data = data[:total]
    for n in range(21):
        if p.proto not in (0, 43, 44, 51, 60):
            return transport(p, data[at:])
        if n == 20 or len(data) < at + 8:
            return False
        size = {44: 8, 51: (data[at + 1] + 2) * 4}.get(
            p.proto, (data[at + 1] + 1) * 8)
        place = (data[at + 2] << 8 | data[at + 3]) if p.proto == 44 else 0
        # an authentication header may claim less than the shortest one
        if len(data) < at + max(size, 8):
            return False
        p.fragment = p.fragment or place & 0xFFF9 != 0
        p.proto, at = data[at], at + max(size, 8)
        if place & 0xFFF8:
            return True
    return False


def parse(data, wire):
    p = Packet(length=ip_length(data, wire))
    version = data[0] >> 4 if data else 0
    p.keyed = {4: ipv4, 6: ipv6}.get(version, lambda *_: False)(p, data)
    return p


def protected(p):
    """Never measured: the agent's port, and SSH once it is established."""
    ports = (p.sport, p.dport)
    if p.sport is None or p.proto not in (6, 17):
        return False
    if AGENT_PORT in ports:
        return True
    opening = p.tcp_flags is not None and p.tcp_flags & 0x17 == 0x02
    return p.proto == 6 and 22 in ports and not opening


# ---- keys ---------------------------------------------------------------

PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6", 132: "sctp"}
FIELDS = {"src": ("src",), "dst": ("dst",), "src_dst": ("src", "dst"),
          "sport": ("sport",), "dport": ("dport",),
          "src_dport": ("src", "dport"), "dst_dport": ("dst", "dport")}


def key(kind, p):
    """Text of the packet's key; None: it has none."""
    if not p.keyed:
        return None
    if kind == "5-tuple":
        return ",".join(map(str, (p.src, p.dst, p.sport or 0, p.dport or 0,
                                  PROTOCOLS.get(p.proto, p.proto))))
    values = [getattr(p, f) for f in FIELDS[kind]]
    return None if None in values else ",".join(map(str, values))


@dataclass
class Truth:
    """What a task with this key and direction must have counted."""
    packets: Counter
    bytes: Counter
    unkeyed: tuple
    fragments: int


def measured(path):
    """[(direction, packet)] of everything that is counted."""
    rows = []
    for link, data, wire in read_file(path):
        strip = LINKS.get(link)
        direction, offset = strip(data) if strip else (IN, None)
        wire = max(wire, len(data))
        if offset is None or offset >= wire or offset > len(data):
            continue
        p = parse(data[offset:], wire - offset)
        if not protected(p):
            rows.append((direction, p))
    return rows


def truth(rows, kind, direction):
    packets, size, unkeyed, fragments = Counter(), Counter(), [0, 0], 0
    for d, p in rows:
        if d != direction:
            continue
        k = key(kind, p)
        if k is None:
            unkeyed[0] += 1
            unkeyed[1] += p.length
            continue
        packets[k] += 1
        size[k] += p.length
        fragments += p.fragment
    return Truth(packets, size, tuple(unkeyed), fragments)

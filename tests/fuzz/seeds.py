#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the seeds of the packet target into tests/fuzz/corpus/packet."""
import struct
from ipaddress import ip_address
from pathlib import Path

HERE = Path(__file__).resolve().parent


def ipv4(proto, payload, ihl=5, fragment=0, total=None, options=b""):
    length = 20 + len(options) + len(payload) if total is None else total
    return struct.pack(">BBHHHBBH4s4s", 0x40 | ihl, 0, length, 1, fragment, 64,
                       proto, 0, bytes([10, 0, 0, 6]), bytes([10, 0, 0, 5])
                       ) + options + payload


def ipv6(following, payload, length=None, src="2001:db8::6"):
    length = len(payload) if length is None else length
    return (struct.pack(">IHBB", 6 << 28, length, following, 64)
            + ip_address(src).packed + ip_address("2001:db8::5").packed
            + payload)


def extension(following, units=0):
    return bytes([following, units]) + bytes(6 + 8 * units)


def ah(following):
    return bytes([following, 4]) + bytes(22)


def fragment6(following, word):
    return struct.pack(">BBHI", following, 0, word, 1)


def tcp(sport=40000, dport=443, flags=0x18, offset=5):
    return struct.pack(">HHIIBBHHH", sport, dport, 1, 1, offset << 4, flags,
                       512, 0, 0)


UDP = struct.pack(">HHHH", 5353, 8008, 12, 0) + b"data"
SCTP = struct.pack(">HHII", 36412, 36412, 1, 0)
ICMP = bytes([8, 0, 0, 0, 0, 1, 0, 1])

SEEDS = {
    "tcp4": ipv4(6, tcp()),
    "tcp4-options": ipv4(6, tcp(), ihl=8, options=bytes(12)),
    "tcp4-offset-15": ipv4(6, tcp(offset=15) + bytes(40)),
    "udp4": ipv4(17, UDP),
    "udplite4": ipv4(136, UDP),
    "sctp4": ipv4(132, SCTP),
    "dccp4": ipv4(33, SCTP),
    "icmp4": ipv4(1, ICMP),
    "gre4": ipv4(47, bytes(8)),
    "esp4": ipv4(50, bytes(16)),
    "ipip4": ipv4(4, ipv4(17, UDP)),
    "first4": ipv4(17, UDP, fragment=0x2000),
    "later4": ipv4(17, UDP, fragment=0x2001),
    "last4": ipv4(17, UDP, fragment=370),
    "short4": ipv4(17, UDP, total=22),
    "long4": ipv4(17, UDP, total=1500),
    "zero4": ipv4(6, tcp(), total=0),
    "ihl4": ipv4(6, tcp(), ihl=4),
    "ssh4": ipv4(6, tcp(dport=22, flags=0x10)),
    "ssh-syn4": ipv4(6, tcp(dport=22, flags=2)),
    "agent4": ipv4(6, tcp(dport=8000)),
    "tcp6": ipv6(6, tcp()),
    "udp6": ipv6(17, UDP),
    "icmp6": ipv6(58, ICMP),
    "mapped6": ipv6(6, tcp(), src="::ffff:10.0.0.6"),
    "none6": ipv6(59, b""),
    "jumbo6": ipv6(0, extension(6) + tcp(), length=0),
    "atomic6": ipv6(44, fragment6(17, 0) + UDP),
    "first6": ipv6(44, fragment6(17, 1) + UDP),
    "later6": ipv6(44, fragment6(17, 0x5c9) + UDP),
    "chain6": ipv6(0, extension(43) + extension(60, 1) + extension(51)
                   + ah(6) + tcp()),
    "chain6-21": ipv6(60, extension(60) * 20 + extension(6) + tcp()),
    "version5": b"\x55" + bytes(39),
    "empty": b"",
    "text-flow": b"10.0.0.6,10.0.0.5,40000,8008,tcp",
    "text-flow6": b"2001:db8::6,2001:db8::5,1,2,icmpv6",
    "text-src": b"::ffff:10.0.0.6",
    # as a filter: in, IPv4, TCP, from 10.0.0.0/8
    "filter": (bytes([0, 4, 6, 1, 0, 0, 0, 0]) + bytes(10) + b"\xff\xff\x0a"
               + bytes(3) + bytes([104]) + bytes(17)),
}
# length, capture length, flags where they are not the plain ones
HEADS = {
    "zero4": (65536, 0xffff, 2),
    "jumbo6": (70000, 0xffff, 2),
    "chain6": (None, 60, 1),
    "udp4": (None, 0xffff, 1),
}


def main():
    directory = HERE / "corpus" / "packet"
    directory.mkdir(parents=True, exist_ok=True)
    for name, packet in SEEDS.items():
        length, caplen, flags = HEADS.get(name, (None, 0xffff, 0))
        length = len(packet) if length is None else length
        head = struct.pack("<IHBB", length, caplen, flags, 104)
        (directory / name).write_bytes(head + packet)


if __name__ == "__main__":
    main()

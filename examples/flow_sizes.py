#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow sizes of the whole network: bytes of every pair of hosts, asked from
the root agent, which merges the answers of all hosts.  Each packet counts
once, at its receiver.

    flow_sizes.py 10.0.0.2 --seconds 10
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "api"))

from client import Client  # noqa: E402  (api/client.py; or a copy of it)


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("root", help="address of the root agent")
    p.add_argument("--proto", default="all", help="tcp, udp, icmp … (all)")
    p.add_argument("--seconds", type=float, default=10, help="(10)")
    args = p.parse_args()

    root = Client(args.root)
    sketch = root.ask("config sketch", interface="INPUT",
                      proto=args.proto).value
    counter = {"sketch_id": sketch, "counter_key_type": "src_dst",
               "increment": "byte"}
    root.ask("config sketch counter", **counter)
    print(f"counting for {args.seconds:g} s", flush=True)
    time.sleep(args.seconds)

    flows, coverage = root.ask("query heavy hitters", hitter_threshold=0,
                               **counter)
    for pair, length in flows.items():
        src, dst = pair.split(",")
        print(f"{length:>12} {src} -> {dst}")
    print(f"{len(flows)} flows, {coverage.answered} of {coverage.expected} "
          f"hosts, {coverage.missed_packets} packets missed")
    for host, reason in coverage.missing.items():
        print(f"no answer from {host}: {reason}")


if __name__ == "__main__":
    main()

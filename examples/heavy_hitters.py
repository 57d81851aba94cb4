#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy hitters: who sends more than a tenth of all packets that a host
receives?  Ask a parent agent and the answer speaks for all hosts below it.

    heavy_hitters.py 10.0.0.5 --proto icmp --seconds 10
"""

import argparse
import time

import requests


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("agent", help="address of the agent to ask")
    p.add_argument("--proto", default="all", help="tcp, udp, icmp … (all)")
    p.add_argument("--key", default="src", help="src, dst, src_dst … (src)")
    p.add_argument("--increment", default="pkt", help="pkt or byte (pkt)")
    p.add_argument("--threshold", type=float, default=0.1,
                   help="share of the total, 0 to 1 (0.1)")
    p.add_argument("--seconds", type=float, default=10, help="(10)")
    args = p.parse_args()

    def ask(**fields):
        reply = requests.post(f"http://{args.agent}:8000", data=fields,
                              timeout=5)
        if reply.status_code != 200:
            raise SystemExit(reply.text)
        return reply

    sketch = int(ask(type="config sketch", interface="INPUT",
                     proto=args.proto).text)
    counter = {"sketch_id": sketch, "counter_key_type": args.key,
               "increment": args.increment}
    ask(type="config sketch counter", **counter)
    print(f"counting for {args.seconds:g} s", flush=True)
    time.sleep(args.seconds)

    reply = ask(type="query heavy hitters", hitter_threshold=args.threshold,
                **counter)
    for key, amount in reply.json().items():
        print(f"{amount:>12} {key}")
    print("hosts that answered:", reply.headers["X-Linnet-Answered"])


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Port scans of a host: when the number of ports that it was asked for in the
last second jumps by more than 20, say who asked, and for how many.

    port_scan.py 10.0.0.5 --seconds 60
"""

import argparse
import re
import time
from collections import Counter

import requests

INTERVAL_S = 0.3
JUMP = 20


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("agent", help="address of the agent on the host")
    p.add_argument("--seconds", type=float, help="then stop (never)")
    args = p.parse_args()

    def ask(**fields):
        reply = requests.post(f"http://{args.agent}:8000", data=fields,
                              timeout=5)
        if reply.status_code != 200:
            raise SystemExit(reply.text)
        return reply.text

    sid = int(ask(type="config sketch", interface="INPUT"))
    for key in "src_dport", "dport":
        ask(type="config sketch counter", sketch_id=sid, counter_key_type=key,
            increment="pkt")
    print("watching", args.agent, flush=True)

    end = time.monotonic() + args.seconds if args.seconds else None
    old = 0
    while end is None or time.monotonic() < end:
        time.sleep(INTERVAL_S)
        new = int(ask(type="query sketch", sketch_id=sid,
                      counter_key_type="dport",
                      counter_key="real_time_key_num"))
        if new - old > JUMP:
            now = ask(type="query real time counter", sketch_id=sid,
                      counter_key_type="src_dport")
            sources = Counter(re.findall(r"\d+\.\d+\.\d+\.\d+", now))
            print("portscan detected.", dict(sources), flush=True)
        old = new


if __name__ == "__main__":
    main()

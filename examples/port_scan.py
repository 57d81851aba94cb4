#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Port scans of a host: who asked it for more than 20 ports in a second, and
for how many in all.

The agent answers for the last second, which slides on.  Asked every 0.3 s it
shows each port several times, and at first perhaps only the beginning of a
scan.  So the ports of a scan are collected, and reported once, when its
source has asked for no new one for a while; one that goes on and on is
reported every 30 s.

    port_scan.py 10.0.0.5 --seconds 60
"""

import argparse
import time

import requests

INTERVAL_S = 0.3
QUIET_S = 1.5           # by then the last port has left the last second
LONGEST_S = 30
FEW = 20


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
        return reply

    counter = {"sketch_id": ask(type="config sketch", interface="INPUT").text,
               "counter_key_type": "src_dport"}
    ask(type="config sketch counter", **counter)
    print("watching", args.agent, flush=True)

    scans = {}              # source: (ports, its first time, its last new port)
    end = time.monotonic() + args.seconds if args.seconds else None
    while end is None or time.monotonic() < end:
        time.sleep(INTERVAL_S)
        reply = ask(type="query real time counter", **counter)
        now = time.monotonic()

        last_second = {}    # source: ports
        for key in reply.json():
            source, port = key.split(",")
            last_second.setdefault(source, set()).add(port)

        for source, ports in last_second.items():
            known, first, _ = scans.get(source, (set(), now, now))
            if (known or len(ports) > FEW) and ports - known:
                scans[source] = (known | ports, first, now)

        for source, (ports, first, newest) in list(scans.items()):
            if now - newest > QUIET_S or now - first > LONGEST_S:
                print("portscan detected.", {source: len(ports)}, flush=True)
                del scans[source]


if __name__ == "__main__":
    main()

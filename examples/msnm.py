#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Anomalies of a whole network: every host learns what its traffic is usually
like, each parent also what its children usually say; then the root tells when
something is not as usual, where, in which counters, and by which flows.

Hosts without children learn first, then their parents, at last the root: for
a tree of three levels that takes three times the rows.

    msnm.py 10.0.0.2 --window 10 --rows 40
"""

import argparse
import time

import requests


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("root", help="address of the root agent")
    p.add_argument("--window", type=int, default=60,
                   help="seconds of an interval, 10 to 3,600 (60)")
    p.add_argument("--rows", type=int, default=60,
                   help="intervals to learn from (60)")
    p.add_argument("--lv", help="latent variables: at most one for 20 rows, "
                   "or auto (rows / 20)")
    p.add_argument("--flows", type=int, default=3, help="of an alarm (3)")
    p.add_argument("--seconds", type=float,
                   help="to watch after that, then stop (never)")
    args = p.parse_args()

    def ask(**fields):
        reply = requests.post(f"http://{args.root}:8000", data=fields,
                              timeout=10)
        if reply.status_code != 200:
            raise SystemExit(reply.text)
        return reply

    ask(type="config msnm", window_s=args.window, rows=args.rows,
        lv=args.lv or max(1, args.rows // 20))
    said = None
    while True:
        now = ask(type="query msnm").json()
        full = now.get("model", {}).get("stage") == "full"
        if now["phase"] == "watching" and (full or not now.get("children")):
            break
        rows = (f"{now['have']} of {now['need']} intervals" if "have" in now
                else "waiting for the hosts below")
        if rows != said:
            print(f"{now['phase']}: {rows}", flush=True)
        said = rows
        time.sleep(1)
    print("watching", args.root, flush=True)

    last = now["interval"]
    end = time.monotonic() + args.seconds if args.seconds else None
    while end is None or time.monotonic() < end:
        time.sleep(1)
        for now in ask(type="query msnm", history=5).json():
            if now["interval"] <= last:
                continue
            last = now["interval"]
            if not now["alarm"]:
                continue
            why = ask(type="query msnm diagnosis", interval=last,
                      flows=args.flows).json()
            print(now["start"], "alarm:", " > ".join(why["path"]))
            for top in why["top"]:
                print(f"    {top['name']}: {top['value']:.6g}, "
                      f"usually {top['mean']:.6g}")
            for flow in why["flows"]:
                print(f"    {flow['key']}: {flow['packets']} packets, "
                      f"{flow['bytes']} bytes", flush=True)


if __name__ == "__main__":
    main()

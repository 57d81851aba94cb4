#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bandwidth between two hosts: the agent of one sends to the agent of the
other for a few seconds.

    bandwidth.py 10.0.0.5 10.0.0.6
"""

import argparse

import requests


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("agent", help="address of the sending agent")
    p.add_argument("dst", help="address of the receiving agent")
    p.add_argument("--seconds", type=int, default=3, help="1 to 10 (3)")
    args = p.parse_args()

    reply = requests.post(f"http://{args.agent}:8000", data={
        "type": "query bw", "src": args.agent, "dst": args.dst,
        "duration": args.seconds}, timeout=args.seconds + 5)
    if reply.status_code != 200:
        raise SystemExit(reply.text)
    print(f"{args.agent} -> {args.dst}: {float(reply.text):g} MBytes/s")


if __name__ == "__main__":
    main()

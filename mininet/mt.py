#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree network with linnet on h2 ... hN, then Mininet's prompt."""

import argparse
import contextlib
import sys

from mininet.cli import CLI
from mininet.log import setLogLevel

import sandbox
import traffic
from cluster import ROOT, Cluster, ClusterError


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("-d", "--depth", type=int, default=2,
                   help="levels of switches (2)")
    p.add_argument("-f", "--fanout", type=int, default=3,
                   help="branches of a switch (3)")
    p.add_argument("--traffic", action="store_true",
                   help="steady mixed traffic between all hosts meanwhile")
    p.add_argument("--build", help="build directory (build/)")
    args = p.parse_args()
    tmp = sandbox.enter()
    try:
        cluster = Cluster(tmp, args.depth, args.fanout,
                          args.build or ROOT / "build")
    except ClusterError as e:
        sys.exit(str(e))
    try:
        print(f"starting linnet on {len(cluster.parents)} of "
              f"{len(cluster.net.hosts)} hosts ...", flush=True)
        cluster.start()
        show(cluster)
        setLogLevel("output")
        with (traffic.Background(cluster) if args.traffic
              else contextlib.nullcontext()):
            CLI(cluster.net)
    except ClusterError as e:
        sys.exit(str(e))
    finally:
        cluster.stop()


def show(cluster):
    print("overlay:")
    for name in cluster.subtree(cluster.root):
        print(f"  {'  ' * cluster.level(name)}{name} {cluster.ip(name)}")
    url = f"http://{cluster.ip(cluster.root)}:8000"
    print(f"logs: {cluster.tmp}/h*.log, gone at exit\n"
          f"try:  h1 curl -s {url}/api/v1/overlay", flush=True)


if __name__ == "__main__":
    main()

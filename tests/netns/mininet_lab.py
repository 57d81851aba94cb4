# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab whose network is Mininet's: a tree of Linux bridges with two levels.

Mininet names its bridges and their ports in the network of this process:
only for one that went on in a network of its own, by sandbox.enter().
"""
import math

from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topolib import TreeTopo

from lab import Host, Lab, network_of


class MininetLab(Lab):
    """n hosts: 4, 9, 16 ..."""

    net = None

    def _connect(self, n):
        fanout = math.isqrt(n)
        assert fanout > 1 and fanout ** 2 == n, n
        Mininet.inited = True       # it would change limits of the machine
        self.net = Mininet(TreeTopo(2, fanout), switch=LinuxBridge,
                           controller=None, ipBase="10.77.0.0/16")
        self.keepers = [node.pid for node in self.net.hosts]
        self.net.start()
        self.switch = Host(self, "switch", 0, network_of())
        for i, node in enumerate(self.net.hosts, 1):
            host = Host(self, node.name, i, network_of(node.pid))
            cable = node.defaultIntf().link
            port = next(e for e in (cable.intf1, cable.intf2)
                        if e.node is not node)
            host.dev, host.port = node.defaultIntf().name, port.name
            host.bridge = port.node.name
            self.hosts.append(host)

    def _own(self):
        return self.hosts       # the switch's network is this process' own

    def close(self):
        try:
            if self.net:
                self.net.stop()
        finally:
            super().close()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many clients that ask as fast as they get answers:

    flood.py ADDRESS PORT PATH SECONDS CLIENTS SOURCE...

Each has a connection of its own, from one source address after the other, and
makes a new one when it is closed.  The last line is JSON: status -> answers;
"closed" counts connections that ended, "retry" refusals with Retry-After.
"""
import collections
import json
import selectors
import socket
import sys
import time


class Client:
    def __init__(self, flood, source):
        self.flood, self.source = flood, source
        self.connect()

    def connect(self):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.bind((self.source, 0))
        self.sock.connect_ex(self.flood.server)
        self.text = b""
        self.flood.wait.register(self.sock, selectors.EVENT_WRITE, self)

    def again(self):
        self.flood.count["closed"] += 1
        self.flood.wait.unregister(self.sock)
        self.sock.close()
        self.connect()

    def ready(self, events):
        try:
            if events & selectors.EVENT_WRITE:
                self.sock.send(self.flood.request)
                self.flood.wait.modify(self.sock, selectors.EVENT_READ, self)
                return
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.again()
            return
        self.text += data
        head, sep, body = self.text.partition(b"\r\n\r\n")
        if not sep:
            return
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        if len(body) < length:
            return
        self.flood.answered(head)
        self.text = b""
        self.flood.wait.modify(self.sock, selectors.EVENT_WRITE, self)


class Flood:
    def __init__(self, server, path):
        self.server, self.count = server, collections.Counter()
        self.wait = selectors.DefaultSelector()
        self.request = (f"GET {path} HTTP/1.1\r\nHost: {server[0]}\r\n\r\n"
                        ).encode()

    def answered(self, head):
        status = head.split()[1].decode()
        self.count[status] += 1
        if status in ("429", "503"):
            self.count["retry"] += b"Retry-After" in head

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, events in self.wait.select(0.1):
                key.data.ready(events)


def main(address, port, path, seconds, clients, *sources):
    flood = Flood((address, int(port)), path)
    for i in range(int(clients)):
        Client(flood, sources[i % len(sources)])
    flood.run(float(seconds))
    print(json.dumps(flood.count), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

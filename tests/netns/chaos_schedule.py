# SPDX-License-Identifier: GPL-2.0-or-later
"""What a seed says: which trouble comes when, to whom, for how long."""
import random
from typing import NamedTuple

EVERY_S = 2
# what is done, and which part of a host it takes for so long
DEEDS = {
    "kill": ("agent", "supervisor", "monitor", "reader", "host"),
    "stop": ("agent", "reader", "supervisor"),
    "partition": ("both", "to", "away", "down", "rules", "side"),
    "slow": ("delay", "jitter", "rate"),
    "corrupt": ("loss", "double", "flip", "garble", "stranger", "reset"),
    "move": ("drain", "remove", "by hand"),
    "reconfigure": ("task", "tasks", "agent", "monitor"),
    "clock": ("step",),
}
KINDS = tuple(DEEDS)
PARTS = {"agent": ("agent",), "reader": ("monitor",),
         "supervisor": ("monitor",), "monitor": ("monitor",),
         "host": ("agent", "monitor"), "stranger": ("agent", "link"),
         "drain": ("agent",), "remove": (), "by hand": (), "task": (),
         "tasks": (), "step": ("clock",)}
READERS_IN_A_MINUTE = 2  # after the fourth the monitor gives up


class Event(NamedTuple):
    at: float
    kind: str
    deed: str
    host: int
    lasts: float
    other: int    # another host, for a move
    number: int   # makes one deed differ from the next

    def __str__(self):
        return (f"{self.at:7.2f} {self.kind} {self.deed} host {self.host} for "
                f"{self.lasts:.2f} s, {self.other}, {self.number}")


def side_of(event, hosts):
    """Who is on the small side of a partition, or on the bad link."""
    if event.deed != "side":
        return [event.host]
    others = [i for i in range(hosts) if i != event.host]
    return [event.host,
            *random.Random(event.number).sample(others, hosts // 3)]


def schedule(seed, seconds, hosts, every=EVERY_S):
    """Events; each kind once in a row of eight, so that short runs have all;
    nothing happens to a part of a host that is in trouble already."""
    rng, busy, deaths, events, kinds = random.Random(seed), {}, [], [], []
    for i in range(int(seconds / every)):
        at = i * every
        kinds = kinds or rng.sample(KINDS, len(KINDS))
        kind = kinds.pop()
        while True:
            event = Event(at, kind, rng.choice(DEEDS[kind]),
                          rng.randrange(hosts),
                          round(rng.uniform(1, 6) * every / EVERY_S, 2),
                          rng.randrange(hosts), rng.randrange(2**31))
            if event.deed == "reader" and sum(
                    h == event.host and t > at - 70 for h, t in deaths
                    ) >= READERS_IN_A_MINUTE:
                continue
            parts = [(p, h) for h in side_of(event, hosts)
                     for p in PARTS.get(event.deed, ("link",))]
            if kind == "reconfigure" and event.deed in ("agent", "monitor"):
                parts = [(event.deed, event.host)]
            if event.other != event.host and all(
                    busy.get(p, -1) <= at for p in parts):
                break
        if event.deed == "reader":
            deaths.append((event.host, at))
        busy.update(dict.fromkeys(parts, at + event.lasts + every))
        events.append(event)
    return events

# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows of tasks that count keys: real traffic, real time."""
import errno
import time

import pytest

from ctl import (BYTE, CMS, EXACT, HLL, IN, TOPK, Control, Refused, task)
from lab import wait_until
from traffic import spray, udp_packet

UDP = 17
WINDOW_S = 1


def windowed(ident, **options):
    t = task(ident, IN, "src", BYTE, proto=UDP, **options)
    t.window_ms = WINDOW_S * 1000
    return t


def now():
    return int(time.time() // WINDOW_S)


def begin(k):
    """Well into window k: the kernel's counters are read a moment late."""
    wait_until(lambda: time.time() >= (k + 0.2) * WINDOW_S, 5, f"window {k}")


def totals(images):
    return (sum(i.totals.pkt for i in images),
            sum(i.totals.byte for i in images))


def send(a, b):
    """Three windows with known packets; the first, or 0 if it took longer."""
    first = now() + 1
    for i in range(3):
        begin(first + i)
        spray(a, [udp_packet(a.ip4, b.ip4, 1111, 53, bytes(i * 10))]
              * (10 * (i + 1)), 1000)
        if now() != first + i:
            return 0
    return first


@pytest.mark.parametrize("readers", [1, 2])
def test_windows(lab, readers):
    a, b = lab.hosts
    b.monitor("--readers", readers)
    with Control(b) as control:
        control.put(windowed(1), task(2, IN, "src", BYTE, proto=UDP))

        first = next(f for f in (send(a, b) for _ in range(5)) if f)
        begin(first + 3)
        for i in range(3):
            n, size = 10 * (i + 1), 28 + i * 10
            reply, images = control.window(1, first + i, CMS | TOPK | HLL)
            assert (reply.readers, len(images)) == (readers, readers)
            assert totals(images) == (n, n * size)
            assert reply.has_loss and reply.loss.matched.packets == n
            assert sum(image.points([a.ip4])[a.ip4][1]
                       for image in images) == n * size
            assert max(image.hll()[0] for image in images) == 1
            for image in images:
                assert image.head.began_ms == (first + i) * WINDOW_S * 1000
                assert image.head.now_ms - image.head.began_ms == 1000
                image.close()
        # since creation all goes on beside them
        assert control.totals(1)[0] == control.totals(2)[0]
        with pytest.raises(Refused) as refused:
            control.read(1, CMS)
        assert refused.value.errno == errno.EINVAL
        for image in control.read(1, EXACT)[1]:
            image.close()
        for what in (EXACT, 1 << 4, CMS | 1 << 7):
            with pytest.raises(Refused) as refused:
                control.window(1, first, what)
            assert refused.value.errno == errno.EINVAL
        # one that was kept is gone when its place was taken
        begin(first + 6)
        with pytest.raises(Refused) as refused:
            control.window(1, first, CMS)
        assert refused.value.errno == errno.ENODATA

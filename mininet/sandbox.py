# SPDX-License-Identifier: GPL-2.0-or-later
"""A place for a Mininet network that leaves nothing behind.

enter() goes on in new network, mount and PID namespaces: switches and their
ports get no names in the caller's network, and the kernel ends every process
and removes every interface when this process is gone, however it ends.  The
parent that stays outside passes signals on; a janitor that outlives both
removes the temporary directory.

entered() moves the calling thread into a network namespace, inside() into that
of one Mininet host, for sockets made by this very process.
"""

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import sys
import tempfile

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def _janitor(tmp):
    """A process that removes the directory once nobody holds the descriptor
    that this returns any more."""
    end, held = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, end)
        os.closerange(end + 1, 65536)
        os.read(end, 1)
        shutil.rmtree(tmp, ignore_errors=True)
        os._exit(0)
    os.close(end)
    return held


def _wait(pid, tmp):
    """What the parent does: pass signals on, wait, clean up, exit alike."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the child gets its own
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, frame: os.kill(pid, n))
    _, status = os.waitpid(pid, 0)
    shutil.rmtree(tmp, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _end(number, frame):
    signal.signal(number, signal.SIG_IGN)       # once: clean up in peace
    sys.exit(128 + number)


def enter():
    """Continue in namespaces of our own and return a temporary directory
    that every user may pass through; needs root."""
    if os.geteuid() != 0:
        sys.exit("this needs root: it makes network namespaces")
    sys.stdout.flush()
    tmp = tempfile.mkdtemp(prefix="linnet-")
    os.chmod(tmp, 0o711)
    _janitor(tmp)
    _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID))
    pid = os.fork()
    if pid:
        _wait(pid, tmp)
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    _check(_libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
    _check(_libc.mount(b"proc", b"/proc", b"proc", 0, None))
    # In this network only hosts look at packets, bridges pass them on.
    for path in glob.glob("/proc/sys/net/bridge/bridge-nf-call-*"):
        with open(path, "w") as f:
            f.write("0")
    return tmp


@contextlib.contextmanager
def entered(path):
    """Sockets made in this block belong to the network namespace `path`."""
    with open("/proc/thread-self/ns/net") as own, open(path) as other:
        _check(_libc.setns(other.fileno(), CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(own.fileno(), CLONE_NEWNET))


def inside(node):
    """Sockets made in this block belong to the network of a host."""
    return entered(f"/proc/{node.pid}/ns/net")

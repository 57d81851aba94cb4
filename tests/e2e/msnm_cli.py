# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of linnet msnm, as the tests of it make them."""
import json
import math
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LINNET_BUILD", ROOT / "build")).resolve()
LINNET = BUILD / "api/linnet"
DEADLINE_S = 30
FIELDS = "sa,da,sp,dp,pr,flg,stos,ipkt,ibyt,opkt,obyt,in,out"


def no_constant(word):
    raise ValueError(f"{word} is not JSON")


def lines(text):
    return [json.loads(x, parse_constant=no_constant)
            for x in text.splitlines()]


def call(verb, *args, stdin=None, **options):
    argv = [LINNET, "msnm", verb, *map(str, args)]
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run(argv, input=stdin, capture_output=True,
                          timeout=DEADLINE_S, check=False, **options)


def linnet(verb, *args, **options):
    """What it prints; it must end well and say nothing else."""
    done = call(verb, *args, **options)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return lines(done.stdout.decode())


def refused(verb, *args, exit_status=78, **options):
    """Its complaint; nothing is printed."""
    done = call(verb, *args, **options)
    assert done.returncode == exit_status, (done, args)
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.startswith("linnet: ") and text.count("\n") == 1, text
    return text[len("linnet: "):-1]


def is_left_out():
    """The build is without multivariate monitoring, which is allowed."""
    if not LINNET.exists():
        return False
    return "msnm" not in subprocess.run([LINNET, "--help"], text=True,
                                        capture_output=True,
                                        check=True).stdout


needs_msnm = pytest.mark.skipif(
    is_left_out(), reason="this build is without multivariate monitoring")


def near(a, b, rel=1e-9, abs_=0.0):
    return math.isclose(a, b, rel_tol=rel, abs_tol=abs_)


def all_near(a, b, rel=1e-9, abs_=0.0):
    return len(a) == len(b) and all(near(x, y, rel, abs_)
                                    for x, y in zip(a, b))


def as_flows(flows, fields=FIELDS):
    return "".join(x + "\n" for x in [fields, *flows])

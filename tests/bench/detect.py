#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long detection takes, and the same figures by numpy beside it.

Two matrices of 1,321 rows and 144 counters are made: in one 26 of them vary,
as on a small router, in the other all.  numpy does what a plain script would:
the full SVD of all columns, and for each row the covariance of the scores and
its inverse.  Both run on one processor.  The goals are for the first matrix.

  detect.py [--rounds 50] [--json F]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

PROGRAM = Path(os.environ.get(
    "LINNET_BUILD", Path(__file__).resolve().parents[2] / "build")) \
    / "tests/bench/detect"
ROWS, COLUMNS, LV = 1321, 144, 2
GOALS = {"calibrate_ms": 10, "judge_us": 5}


def matrix(varying):
    """Counters: ten causes behind those that vary, the others one value."""
    random = np.random.default_rng(7)
    causes = random.gamma(2, 50, (ROWS, 10))
    mix = random.uniform(0, 1, (10, varying)) ** 3
    x = np.zeros((ROWS, COLUMNS))
    x[:, ::7] = 3
    x[:, random.permutation(COLUMNS)[:varying]] = np.round(
        causes @ mix + random.poisson(5, (ROWS, varying)))
    return x


def script_calibrate(x):
    mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    scale[scale == 0] = 1
    z = (x - mean) / scale
    _, _, v = np.linalg.svd(z, full_matrices=True)
    p = v[:LV].T
    return mean, scale, p, z @ p


def script_judge(row, mean, scale, p, scores):
    z = (row - mean) / scale
    t = z @ p
    e = z - t @ p.T
    inverse = np.linalg.inv(np.cov(scores.T))
    return e @ e, t @ inverse @ t


def timed(repeat, function, *args):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(varying, rounds):
    x = matrix(varying)
    with tempfile.NamedTemporaryFile() as file:
        x.tofile(file.name)
        out = subprocess.run(
            [PROGRAM, file.name, *map(str, (ROWS, COLUMNS, LV, rounds))],
            check=True, capture_output=True, text=True).stdout
    ours = json.loads(out)
    script = script_calibrate(x)
    return {"varying": varying, **ours, "numpy": {
        "calibrate_ms": timed(max(3, rounds // 10),
                              script_calibrate, x) * 1e3,
        "judge_us": timed(20 * rounds, script_judge, x[5], *script) * 1e6}}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM}: not built")
    results = [measure(varying, args.rounds) for varying in (26, COLUMNS)]
    for r in results:
        print(f"{ROWS} x {COLUMNS}, {r['varying']} vary, rank {r['rank']}, "
              f"lv {LV}; resident {r['resident_kib'][0]} -> "
              f"{r['resident_kib'][1]} KiB")
        for name, goal in GOALS.items():
            ours, numpy = r[name][0], r["numpy"][name]
            verdict = "" if r["varying"] == COLUMNS else \
                f"  goal {goal} {'pass' if ours <= goal else 'MISSED'}"
            print(f"  {name:13} {ours:8.3f}  numpy {numpy:8.1f}  "
                  f"numpy / ours {numpy / ours:6.0f}{verdict}")
        print(f"  {'diagnose_us':13} {r['diagnose_us'][0]:8.3f}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

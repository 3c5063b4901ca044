"""Start-up: ``import osv_lab`` and ``osv --help`` against importing numpy alone.

Fresh processes, interleaved, median of the rounds; the ratio is to ``python -c "import numpy"``. Goals: under 0.5 s and
under 0.7 s on an idle machine, which is what the ratios stand for.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

OSV = str(Path(sys.executable).parent / "osv")
CASES = {
    "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
    "import osv_lab": [sys.executable, "-c", "import osv_lab"],
    "osv --help": [OSV, "--help"],
    "osv train --help": [OSV, "train", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, command in CASES.items():
            times[name].append(seconds(command))
    base = statistics.median(next(iter(times.values())))
    print(f"{'what':28} {'median s':>9} {'ratio to numpy':>15}")
    for name, values in times.items():
        print(f"{name:28} {statistics.median(values):9.3f} {statistics.median(values) / base:15.2f}")


if __name__ == "__main__":
    main()

"""The long forms: `python -m tests.robustness kills` kills 50 trainings, `python -m tests.robustness memory` makes 10,000 meta-steps twice.

They print what was done, and end with an error if something wasn't as it should be.
"""

import argparse
import tempfile
from pathlib import Path

from . import kills, memory


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.robustness", description=__doc__)
    parser.add_argument("what", choices=["kills", "memory"])
    parser.add_argument("--count", type=int, metavar="N", help="how many kills (default 50), or meta-steps (default 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default %(default)s)")
    options = parser.parse_args()
    if options.what == "kills":
        with tempfile.TemporaryDirectory() as folder:
            for what, count in sorted(kills.kill_and_go_on(Path(folder), options.count or 50, options.seed).items()):
                print(f"{count:6} {what}")
        return
    for name, way in memory.WAYS.items():
        grown = memory.growth(way, options.count or 10_000)
        print(f"{grown.steps} meta-steps {name}: {grown.traced:,} bytes more, {grown.resident:,} resident", flush=True)
        assert grown.is_flat, "more than the losses"


if __name__ == "__main__":
    main()

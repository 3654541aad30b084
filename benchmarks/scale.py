"""How far one machine goes: the records of ten million images, and one driver of 64 workers.

    python -m benchmarks.scale records --images 10000000 --runs 10000 --home scale
    python -m benchmarks.scale records --images 100000 --runs 1000
    python -m benchmarks.scale driver --images 40000

docs/scale.md has the numbers, and what they mean.
"""

from __future__ import annotations

import argparse

from benchmarks import scale_driver, scale_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    scale_records.add_to(parts)
    scale_driver.add_to(parts)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

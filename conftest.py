"""Helper modules beside the tests of a package are importable by their own names."""

import sys
from pathlib import Path

sys.path[:0] = map(str, sorted(Path(__file__).parent.glob("packages/*/tests")))

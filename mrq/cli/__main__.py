"""``python -m mrq.cli`` is ``mrq``."""

import sys

from mrq.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m workers`: a worker as its image runs it. The logic lives in `mrq.worker`, the service in `mrq.daemon`."""

import sys

from mrq.cli import main

if __name__ == "__main__":
    sys.exit(main(["worker", *sys.argv[1:]]))

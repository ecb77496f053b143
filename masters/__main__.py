"""`python -m masters`: a master as its image runs it. The logic lives in `mrq.master`, the service in `mrq.daemon`."""

import sys

from mrq.cli import main

if __name__ == "__main__":
    sys.exit(main(["master", *sys.argv[1:]]))

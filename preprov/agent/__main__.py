"""`python -m preprov.agent`: see `preprov.agent.boot.main`."""

import sys

from preprov.agent.boot import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

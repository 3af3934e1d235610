"""A gRPC application in Python: `peer.py server PORT MAX_AGE_MS`, `peer.py client TARGET [AUTHORITY]` or `peer.py steady TARGET SECONDS`."""

import sys

import client
import server

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    sys.exit({"server": server.run, "client": client.run, "steady": client.steady}[role](*arguments))

"""A gRPC application in Python: `peer.py server PORT` or `peer.py client TARGET`."""

import sys

import client
import server

if __name__ == "__main__":
    role, where = sys.argv[1:]
    sys.exit({"server": server.run, "client": client.run}[role](where))

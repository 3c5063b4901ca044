"""A stage for the server under attack: names resolve as the test says, and every connection it makes is written down.

OSV_TEST_STAGE names a JSON file: ``names`` (per name a list of answers, one per time it is asked, the last for ever),
``public`` (an address that is public), ``site`` (where a connection to it really goes), ``log``.
"""

import json
import os
import socket
import sys

if os.environ.get("OSV_TEST_STAGE"):
    with open(os.environ["OSV_TEST_STAGE"]) as file:
        STAGE = json.load(file)
    real_resolve, real_connect = socket.getaddrinfo, socket.create_connection
    asked = {}

    def resolve(host, port, *args, **options):
        name = host.decode() if isinstance(host, bytes) else str(host)
        answers = STAGE["names"].get(name.lower())
        if answers is None:  # numbers in every form the C library knows, and nothing that asks a name server
            return real_resolve(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        asked[name] = asked.get(name, 0) + 1
        found = answers[min(asked[name], len(answers)) - 1]
        kinds = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in found]
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in kinds]

    def connect(address, *args, **options):
        if address[0] == STAGE["public"]:
            address = tuple(STAGE["site"])
        return real_connect(address, *args, **options)

    def record(event, args):
        if event == "socket.connect" and isinstance(args[1], tuple):
            with open(STAGE["log"], "a") as log:
                log.write(json.dumps(list(args[1][:2])) + "\n")

    socket.getaddrinfo, socket.create_connection = resolve, connect
    sys.addaudithook(record)

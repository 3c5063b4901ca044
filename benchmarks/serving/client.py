"""The load: as many connections as asked, each with one request after the other, over bare sockets.

``python client.py PORT CONNECTIONS SECONDS IMAGE ...`` writes ``{"rate", "latencies", "failed"}``; standard library
alone, since it takes part of the machine from whom it measures.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from pathlib import Path


def request_of(image: bytes) -> bytes:
    body = json.dumps({"image_url": base64.b64encode(image).decode()}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def answer(connection: socket.socket) -> int:
    """Read one answer; its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError
        left -= len(chunk)
    return int(head.split(b" ", 2)[1])


def main() -> None:
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    requests = [request_of(Path(one).read_bytes()) for one in sys.argv[4:]]
    latencies: list[float] = []
    failed: list[int] = []
    end = time.perf_counter() + seconds

    def work(first: int) -> None:
        turn, connection = first, socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (started := time.perf_counter()) < end:
            connection.sendall(requests[turn % len(requests)])
            status = answer(connection)
            if status == 200:
                latencies.append((time.perf_counter() - started) * 1000)
            else:
                failed.append(status)
            turn += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(3 * k,)) for k in range(connections)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    rate = len(latencies) / (time.perf_counter() - started)
    print(json.dumps({"rate": rate, "latencies": latencies, "failed": len(failed)}))


if __name__ == "__main__":
    main()

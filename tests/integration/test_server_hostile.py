"""A hundred and more hostile requests over real HTTP against a real server process, and what it did about them.

Each is answered with a 4xx and a reason, none makes the server reach an address it must not, and its memory stays
flat. The table of what was sent and answered is left in ``test-output/hostile-requests.txt``.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import struct
import threading
import time

import cv2
import numpy as np
import pytest
from hostile_bodies import (
    bmp_bomb,
    deep,
    form,
    gif_bomb,
    jpeg2000_bomb,
    jpeg_header,
    part,
    picture,
    png_bomb,
    png_header,
    png_more_than_said,
    png_text_bomb,
    tiff_bomb,
    tiff_endless,
    webp_bomb,
    webp_lossless_bomb,
)
from hostile_stage import MEGABYTE, Attack, Stage, body, said, sent, stage, url, wire
from PIL import Image
from server_requests import FORM, IMAGE, JSON, RAW, TEXT
from support import ROOT

__all__ = ["stage"]

FILE = part("file", IMAGE, '; filename="a.png"')
NESTED = b'Content-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=abc\r\n\r\n'
NESTED += b"--abc\r\nContent-Disposition: file; filename=a.png\r\n\r\n" + IMAGE + b"\r\n--abc--"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"

HOSTILE: dict[str, Attack] = {
    # decompression bombs
    "PNG header of 12,000 x 12,000": body(lambda: png_header(12_000, 12_000)),
    "PNG of 12,000 x 12,000, all pixels there": body(lambda: png_bomb(12_000)),
    "PNG header of 30,000 x 30,000": body(lambda: png_header(30_000, 30_000)),
    "PNG header of two billion squared": body(lambda: png_header(2**31 - 1, 2**31 - 1)),
    "PNG with a comment of 100 MB": body(png_text_bomb),
    "PNG bomb as base64": lambda stage: said(image_url=base64.b64encode(png_bomb(12_000)).decode())(stage),
    "PNG bomb in a form": sent(files=lambda: {"file": png_bomb(12_000)}),
    "PNG bomb behind a URL": url("http://public.test/bomb"),
    "TIFF of 60,000 x 60,000": body(lambda: tiff_bomb(60_000, 60_000)),
    "TIFF whose strips are not there": body(lambda: tiff_bomb(5000, 5000)),
    "TIFF with a directory that does not end": body(tiff_endless),
    "TIFF directory that points to itself": body(struct.pack("<2sHI", b"II", 42, 0) + bytes(20)),
    "WebP of 16,383 x 16,383": body(webp_bomb),
    "WebP lossless of 16,384 x 16,384": body(webp_lossless_bomb),
    "JPEG 2000 of 50,000 x 50,000": body(jpeg2000_bomb),
    "JPEG of 65,500 x 65,500": body(lambda: jpeg_header(65_500, 65_500)),
    "GIF of 65,535 x 65,535": body(gif_bomb),
    "BMP of 100,000 x 100,000": body(bmp_bomb),
    "PPM of 10^9 x 10^9": body(b"P6 1000000000 1000000000 255\n" + bytes(30)),
    "gzip as the body": body(gzip.compress(bytes(MEGABYTE)), RAW | {"Content-Encoding": "gzip"}),
    "gzip of JSON": body(gzip.compress(b"[" * 10**7), JSON | {"Content-Encoding": "gzip"}),
    # images that are none
    "nothing": body(b""),
    "text": body(b"hello"),
    "zeros": body(bytes(100_000)),
    "PNG cut after its header": body(IMAGE[:40]),
    "PNG cut in its pixels": body(IMAGE[:-30]),
    "PNG signature and nothing else": body(b"\x89PNG\r\n\x1a\n"),
    "PNG of no width": body(lambda: png_header(0, 10)),
    "PNG of no height": body(lambda: png_header(10, 0)),
    "PNG with damaged pixels": body(lambda: png_header(64, 64, b"\x78\x9c" + os.urandom(500))),
    "JPEG cut in the middle": body(lambda: picture("JPEG", size=(200, 200))[:400]),
    "JPEG with no pixels": body(b"\xff\xd8\xff\xd9"),
    "CMYK JPEG cut short": body(lambda: picture("JPEG", "CMYK", (200, 200))[:-200]),
    "16-bit PNG cut short": body(lambda: picture("PNG", "I;16", (200, 200))[:-60]),
    "animated GIF cut in its first frame": body(
        lambda: picture("GIF", "P", (300, 300), save_all=True, append_images=[Image.new("P", (300, 300), 5)])[:200]
    ),
    "SVG": body(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
    "EPS": body(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n"),
    "PDF": body(b"%PDF-1.7\n" + bytes(500)),
    "a pickle": body(b"\x80\x04\x95\x1f\x00\x00\x00cposix\nsystem\n(Vecho\ntR."),
    "a NumPy file": body(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
    "a zip": body(b"PK\x03\x04" + bytes(500)),
    # content types
    "no content type": body(IMAGE, {}),
    "text/plain": body(IMAGE, {"Content-Type": "text/plain"}),
    "application/xml": body(
        b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>", {"Content-Type": "application/xml"}
    ),
    "application/x-www-form-urlencoded": sent(data={"image_url": TEXT}),
    "an image that says it is JSON": body(IMAGE, JSON),
    "JSON that says it is an image": body(json.dumps({"image_url": TEXT}).encode(), RAW),
    "a content type of 8,000 characters": body(IMAGE, {"Content-Type": "x" * 8000}),
    "a raw image for a batch": body(IMAGE, RAW, "/predict/batch"),
    # JSON
    "JSON that ends early": body(b'{"image_url": "', JSON),
    "JSON that goes on": body(json.dumps({"image_url": TEXT}).encode() + b"{}", JSON),
    "JSON in UTF-16": body(json.dumps({"image_url": TEXT}).encode("utf-16"), JSON),
    "JSON nested 100,000 deep": body(lambda: deep(100_000), JSON),
    "JSON nested 400 deep": body(lambda: deep(400), JSON),
    "JSON of 5 MB of brackets": body(b"[" * 5 * MEGABYTE, JSON),
    "JSON with 200,000 fields": body(lambda: json.dumps({f"f{n}": n for n in range(200_000)}).encode(), JSON),
    "JSON with two million numbers": body(b'{"image_url": [' + b"1," * 2_000_000 + b"1]}", JSON),
    "JSON list": body(b"[]", JSON),
    "JSON null": body(b"null", JSON),
    "a number of a million digits": body(b'{"image_url": "", "max_detections": ' + b"9" * 10**6 + b"}", JSON),
    "threshold NaN": body(b'{"image_url": "x", "confidence_threshold": NaN}', JSON),
    "threshold Infinity": body(b'{"image_url": "x", "confidence_threshold": Infinity}', JSON),
    "threshold -Infinity in a query": sent(content=IMAGE, headers=RAW, params={"iou_threshold": "-inf"}),
    "threshold nan in a query": sent(content=IMAGE, headers=RAW, params={"confidence_threshold": "nan"}),
    "threshold 1e999": body(b'{"image_url": "x", "confidence_threshold": 1e999}', JSON),
    "threshold as a string": said(confidence_threshold="0.5"),
    "threshold as a list": said(confidence_threshold=[0.5]),
    "detections as a float": said(max_detections=1.5),
    "detections below zero": said(max_detections=-1),
    "classes as an object": said(classes={"a": 1}),
    "classes without end": said(classes=["lamp"] * 20_000),
    "a class with a null byte": said(classes=["lamp\x00"]),
    "prototype pollution": said(__proto__={"admin": True}),
    "a batch of 10,000": body(json.dumps({"images": ["x"] * 10_000}).encode(), JSON, "/predict/batch"),
    "a batch size of a billion": said("/predict/batch", images=[TEXT], batch_size=10**9),
    # sizes
    "a body that says it is a terabyte": wire(HEAD + b"Content-Length: 1000000000000\r\n\r\n"),
    "a body over the limit": body(bytes(7 * MEGABYTE)),
    "a body over the limit in chunks": body(lambda: (bytes(65536) for _ in range(200))),
    "base64 over the limit": said(image_url="A" * (6 * MEGABYTE - 500_000)),
    # forms
    "a form without a boundary": body(form(FILE), {"Content-Type": "multipart/form-data"}),
    "a form with an empty boundary": body(form(FILE), {"Content-Type": 'multipart/form-data; boundary=""'}),
    "a form with another boundary": body(form(FILE), {"Content-Type": "multipart/form-data; boundary=abc"}),
    "a form with a boundary of 5,000": body(
        form(FILE), {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000}
    ),
    "a form of 5,000 parts": body(lambda: form(*[part("file", b"")] * 5000), FORM, "/predict/batch"),
    "a form of 5,000 fields": body(lambda: form(*[part("classes", b"lamp")] * 5000, FILE), FORM),
    "a form in a form": body(form(NESTED), FORM),
    "a form without its end": body(form(FILE, end=b""), FORM),
    "a form that ends in a header": body(b"--xyz\r\nContent-Disposition: form-da", FORM),
    "a form of headers only": body(b"--xyz\r\n" + b"A: b\r\n" * 50_000, FORM),
    "a header of a megabyte": body(b"--xyz\r\nA: " + b"b" * MEGABYTE + b"\r\n\r\n--xyz--", FORM),
    "a form with a path as file name": body(form(part("file", b"x", '; filename="../../etc/passwd"')), FORM),
    "a form with two images": body(form(FILE, FILE), FORM),
    "a form without an image": body(form(part("iou_threshold", b"0.5")), FORM),
    "a form with a strange field": body(form(FILE, part("__class__", b"x")), FORM),
    "an option as a file": body(form(FILE, part("iou_threshold", b"0.5", '; filename="x"')), FORM),
    # slow and broken clients
    "a head that never ends": wire(b"POST /predict HTTP/1.1\r\nHost: x\r\n"),
    "a head a line at a time": wire(b"POST /predict HTTP/1.1\r\n", *[b"X: y\r\n"] * 12, pause=0.15),
    "a connection that says nothing": wire(),
    "a body that never comes": wire(HEAD + b"Content-Length: 500\r\n\r\n"),
    "a body a byte at a time": wire(HEAD + b"Content-Length: 500\r\n\r\n", *[b"x"] * 12, pause=0.15),
    "a chunked body that never ends": wire(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
    "a body that stops": wire(HEAD + b"Content-Length: 500\r\n\r\nonly this"),
    "a chunk of no size": wire(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a length below zero": wire(HEAD + b"Content-Length: -5\r\n\r\n"),
    "two lengths": wire(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "length and chunks": wire(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    "a head of 100 kB": wire(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000),
    "a path of 100 kB": wire(b"GET /" + b"a" * 100_000),
    "a header with a null byte": wire(HEAD + b"X: a\x00b\r\n\r\n"),
    "TLS": wire(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n"),
    "HTTP/2": wire(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    # paths and methods
    "a path out of the pages": wire(b"GET /docs/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
    "the same, encoded": wire(b"GET /docs/%2e%2e%2f%2e%2e%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a null byte in a path": wire(b"GET /docs/a%00b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TRACE": sent("/predict", "TRACE"),
    "CONNECT": wire(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "GET with a body": sent("/predict", "GET"),
    "the server as a proxy": wire(b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n"),
    # image_url: schemes and forms
    "a path": said(image_url="/etc/passwd"),
    "a relative path": said(image_url="../../../../etc/passwd"),
    "a UNC path": said(image_url="\\\\10.0.0.8\\share\\a.png"),
    "null bytes": said(image_url="\x00\x00\x00"),
    "data URI of HTML": said(image_url="data:text/html;base64,PGI+PGI+PGI+PGI+PGI+PGI+PGI+PGI+"),
    "data URI without base64": said(image_url="data:image/png,%89PNG"),
    "data URI without a comma": said(image_url="data:image/png;base64"),
    "data URI in a data URI": said(image_url="data:image/png;base64,data:image/png;base64," + TEXT),
    **{
        f"scheme of {one}": url(one)
        for one in (
            "file:///etc/passwd", "FILE://localhost/etc/passwd", "gopher://127.0.0.1:{port}/_x", "ftp://public.test/a.png",
            "dict://127.0.0.1:{port}/", "jar:http://127.0.0.1:{port}!/", "unix:///var/run/docker.sock", "s3://bucket/a.png",
            "ldap://127.0.0.1:{port}/", "view-source:http://127.0.0.1:{port}/",
            "//127.0.0.1:{port}/a.png", "http:127.0.0.1:{port}",
        )
    },
    # image_url: loopback and its disguises
    **{
        f"address of {one}": url(one)
        for one in (
            "http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/", "http://0:{port}/",
            "http://0.0.0.0:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.0.0.1:{port}/",
            "http://0177.0.0.1:{port}/", "http://017700000001:{port}/", "http://[::1]:{port}/", "http://[::]:{port}/",
            "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/", "http://[0:0:0:0:0:0:0:1]:{port}/",
            "http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/", "http://[::127.0.0.1]:{port}/",
            "http://[fe80::1%25lo]:{port}/", "http://[fd00:ec2::254]/", "http://[::1", "http://localhost:{port}/",
            "http://LOCALHOST:{port}/", "http://localhost.:{port}/", "http://inside.test:{port}/", "http://inside.test.:{port}/",
            "http://six.test:{port}/", "http://mapped.test:{port}/", "http://mixed.test:{port}/", "http://127.0.0.1.nip.test:{port}/",
            "http://exämple.test:{port}/", "http://①②⑦.⓪.⓪.①:{port}/", "http://127。0。0。1:{port}/", "http://10.0.0.8/",
            "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/", "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal/computeMetadata/v1/", "http://2852039166/", "http://224.0.0.1/", "http://255.255.255.255/",
            "http://public.test@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@public.test/", "http://a:b@127.0.0.1:{port}/",
            "http://127.0.0.1:{port}#@public.test/", "http://127.0.0.1%00.public.test:{port}/", "http://public.test:0/",
            "http://public.test:99999/", "http://public.test:x/", "http://", "http:///a.png", "http://./", "http://../",
            "http://%31%32%37.0.0.1:{port}/", "http://public.test/a b.png", "http://public.test/\r\nHost: inside", "http://nowhere.test/",
            "http://" + "a" * 5000 + "/", "http://" + "a" * 70 + ".test/",
        )
    },
    # image_url: redirects, answers, names that change
    **{
        f"redirect {name}": url(f"http://public.test/{name}")
        for name in (
            "to-loopback", "to-ipv6", "to-mapped", "to-decimal", "to-name", "to-private", "to-metadata", "to-file",
            "to-ftp", "to-gopher", "to-data", "to-user", "to-rebound", "loop", "ping",
        )
    },
    **{
        f"answer {name}": url(f"http://public.test/{name}")
        for name in ("html", "gzip", "declared", "short", "gone", "headers", "silent", "drip", "endless")
    },
    "a public name over TLS that is none": url("https://public.test/a.png"),
    "a name that changes before a redirect": url("http://rebinds.test/loop"),
    "a name that changes before the connection": url("http://rebinds-once.test/html"),
}  # fmt: skip
assert len(HOSTILE) >= 100


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_get_a_reason(stage: Stage, name: str) -> None:
    status, text = HOSTILE[name](stage)
    stage.memory()
    stage.answers.append(f"{status}  {name[:90]!r}: {text[:160]}")
    assert 400 <= status < 500, text
    if "HEAD" not in name:
        error = json.loads(text)["error"]
        assert error["what"]
        assert set(error) == {"what", "found", "fix"}
    assert len(text) < 1500
    assert "Traceback" not in text
    assert str(ROOT) not in text


def test_nothing_forbidden_was_reached(stage: Stage) -> None:
    """The site was asked (the tests above did what they say), and nobody else."""
    connections = {tuple(json.loads(line)) for line in stage.connections.read_text().splitlines()}
    assert connections == {tuple(stage.site)}
    assert stage.inside.reached == 0
    with socket.create_connection(("127.0.0.1", stage.inside.port)):
        pass
    while not stage.inside.reached:  # it does count
        time.sleep(0.01)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 1)])
def test_odd_shapes_are_answered(stage: Stage, size: tuple[int, int]) -> None:
    data = cv2.imencode(".png", np.full((size[1], size[0], 3), 200, np.uint8))[1].tobytes()
    status, text = body(data)(stage)
    assert status == 200, text
    assert json.loads(text)["image"] == {"width": size[0], "height": size[1]}


@pytest.mark.parametrize(
    "data",
    [
        picture("JPEG", "CMYK"),
        picture("PNG", "I;16"),
        picture("TIFF", "F"),
        picture("PNG", "P"),
        picture("GIF", "P", save_all=True, append_images=[Image.new("P", (32, 24), 9)] * 3),
        picture("WEBP", save_all=True, append_images=[Image.new("RGB", (32, 24), "red")] * 3),
        picture("PNG", save_all=True, append_images=[Image.new("RGB", (32, 24), "red")] * 3),
    ],
)
def test_odd_kinds_are_answered(stage: Stage, data: bytes) -> None:
    status, text = body(data)(stage)
    assert status == 200, text
    assert json.loads(text)["image"] == {"width": 32, "height": 24}


def test_pixels_beyond_the_size_are_never_unpacked(stage: Stage) -> None:
    """60 MB in an image of 10 x 10: what fits is what is looked at."""
    status, text = body(png_more_than_said())(stage)
    assert status == 200, text
    assert json.loads(text)["image"] == {"width": 10, "height": 10}


def test_memory_stays_flat(stage: Stage) -> None:
    """What costs memory, again and again: afterwards the server holds what it held, and never held a bomb."""
    assert stage.serves()
    whole = (stage.peak - stage.at_first) / MEGABYTE
    costly = [
        name
        for name in HOSTILE
        if any(word in name for word in ("bomb", "000 x", "MB", "limit", "5,000", "deep", "JSON with"))
    ]
    assert len(costly) > 15

    def once() -> int:
        for name in costly:
            HOSTILE[name](stage)
        return stage.memory()

    once()
    before, stage.peak = once(), 0
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            stage.memory()

    watcher = threading.Thread(target=watch)
    watcher.start()
    once()
    after = once()
    stop.set()
    watcher.join()
    grown, peak = (after - before) / MEGABYTE, (stage.peak - before) / MEGABYTE
    stage.answers.append(
        f"memory: {before / MEGABYTE:.0f} MB; {2 * len(costly)} costly requests later {grown:+.1f}, peak {peak:+.1f} MB"
    )
    stage.answers.append(f"memory of all the requests above: {whole:+.1f} MB at most")
    # One bomb decoded would be 400 MB; each worker process allocates its own decoders and arenas once.
    assert whole < 200
    assert grown < 24
    assert peak < 100
    assert stage.serves()

"""Requests and answers are found in the bytes that a proxy passes on, however these are cut."""

from __future__ import annotations

import pytest

from bench.exchanges import Exchange
from bench.http_log import ConnectionLog, HttpLog

_GET = b"GET /v2/a/manifests/1 HTTP/1.1\r\nHost: here\r\n\r\n"
_HEAD = b"HEAD /v2/a/blobs/x HTTP/1.1\r\nHost: here\r\n\r\n"
_PATCH = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=1\r\nGET \r\n2\r\n\r\n\r\n0\r\nA: b\r\n\r\n"
_PUT = b"PUT /v2/a/manifests/2 HTTP/1.1\r\ncontent-length: 4\r\nExpect: 100-continue\r\n\r\nGET "

_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nHTTP/1.1"
_NO_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_CREATED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_exchanges_of_one_connection(size: int) -> None:
    log = HttpLog()
    connection = ConnectionLog(log)
    now = 0
    for request, answer in ((_GET, _PLAIN), (_HEAD, _NO_BODY), (_PATCH, _ACCEPTED), (_PUT, _CREATED), (_GET, _PLAIN)):
        for add, data in ((connection.client, request), (connection.server, answer)):
            now += 1
            for start in range(0, len(data), size):
                add(data[start : start + size], now)
    assert log.take() == [
        Exchange("GET", "/v2/a/manifests/1", 200, 1, 2, len(_GET), len(_PLAIN)),
        Exchange("HEAD", "/v2/a/blobs/x", 200, 3, 4, len(_HEAD), len(_NO_BODY)),
        Exchange("PATCH", "/v2/a/blobs/uploads/1", 202, 5, 6, len(_PATCH), len(_ACCEPTED)),
        Exchange("PUT", "/v2/a/manifests/2", 201, 7, 8, len(_PUT), len(_CREATED)),
        Exchange("GET", "/v2/a/manifests/1", 200, 9, 10, len(_GET), len(_PLAIN)),
    ]
    assert log.take() == []


def test_requests_that_do_not_wait_for_answers() -> None:
    log = HttpLog()
    connection = ConnectionLog(log)
    connection.client(_GET + _HEAD, 1)
    connection.server(_PLAIN, 2)
    connection.server(_NO_BODY, 3)
    assert [(one.method, one.start, one.end, one.received) for one in log.take()] == [
        ("GET", 1, 2, len(_PLAIN)),
        ("HEAD", 1, 3, len(_NO_BODY)),
    ]


def test_what_is_not_http_is_one_exchange() -> None:
    log = HttpLog()
    connection = ConnectionLog(log)
    connection.client(b"\x16\x03\x01\x02\x00GET / HTTP/1.1\r\n\r\n", 1)
    connection.server(b"HTTP/1.1 400 Bad Request\r\n\r\n400 Bad", 2)
    connection.server(b" Request", 3)
    connection.client(b"more", 4)
    assert log.take() == [Exchange("", "", 400, 1, 3, 27, 43)]


def test_a_request_that_is_not_answered_is_in_the_log() -> None:
    log = HttpLog()
    connection = ConnectionLog(log)
    connection.client(_GET, 1)
    connection.server(_PLAIN[:40], 2)
    assert log.take() == [Exchange("GET", "/v2/a/manifests/1", 200, 1, 2, len(_GET), 40)]


def test_a_body_that_ends_with_the_connection() -> None:
    log = HttpLog()
    connection = ConnectionLog(log)
    connection.client(_GET, 1)
    connection.server(b"HTTP/1.0 200 OK\r\n\r\nbody", 2)
    connection.server(b"HTTP/1.1 500 is part of the body\r\n\r\n", 3)
    assert log.take() == [Exchange("GET", "/v2/a/manifests/1", 200, 1, 3, len(_GET), 23 + 36)]

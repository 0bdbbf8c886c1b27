"""Messages of HTTP/1.1 that several tests of the relay send."""

from __future__ import annotations

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n"

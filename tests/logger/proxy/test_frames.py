"""Frames of HTTP/2, read however they are cut."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from inferwatch_logger.proxy import frames
from inferwatch_logger.proxy.frames import PREFACE, BrokenFrames, Frames, goaway, settings

FIRST = SettingsFrame(0, settings={1: 8192, 4: 70_000}).serialize()


def sent(*given: Frame) -> bytes:
    return b"".join(frame.serialize() for frame in given)


SENT = sent(
    WindowUpdateFrame(0, window_increment=10),
    HeadersFrame(1, b"whole", flags=["END_HEADERS"]),
    DataFrame(1, b"first"),
    PingFrame(0, b"12345678"),
    HeadersFrame(3, b"pri", flags=["PRIORITY", "PADDED", "END_HEADERS", "END_STREAM"], pad_length=7, stream_weight=3),
    HeadersFrame(5, b"in "),
    ContinuationFrame(5, b"three "),
    ContinuationFrame(5, b"parts", flags=["END_HEADERS"]),
    DataFrame(5, b"padded", flags=["PADDED", "END_STREAM"], pad_length=200),
    PushPromiseFrame(1, 2, b"promised", flags=["END_HEADERS"]),
    DataFrame(1, b"", flags=["END_STREAM"]),
    RstStreamFrame(7, error_code=8),
)
EXPECTED = [
    (frames.HEADERS, 1, b"whole", False),
    (frames.DATA, 1, b"first", False),
    (frames.HEADERS, 3, b"pri", True),
    (frames.HEADERS, 5, b"in three parts", False),
    (frames.DATA, 5, b"padded", True),
    (frames.PUSH_PROMISE, 1, b"promised", False),
    (frames.DATA, 1, b"", True),
    (frames.RESET, 7, b"\0\0\0\x08", False),
]


@settings_of(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=80))
def test_frames_are_the_same_however_they_are_cut(sizes: list[int]) -> None:
    reader = Frames(preface=True)
    rest = PREFACE + FIRST + SENT
    told: list[tuple[int, int, bytes, bool]] = []
    data = b""
    for size in [*sizes, len(rest)]:
        part, rest = rest[:size], rest[size:]
        for frame in reader.feed(part):
            if frame.kind == frames.SETTINGS:
                assert settings(frame) == {1: 8192, 4: 70_000}
            elif frame.kind == frames.DATA:
                data += frame.payload
                if frame.last:
                    told.append((frame.kind, frame.stream, data, frame.ends_stream))
                    data = b""
            else:
                told.append((frame.kind, frame.stream, frame.payload, frame.ends_stream))
    assert told == EXPECTED
    assert reader.between


def test_no_frame_is_kept_for_its_length() -> None:
    reader = Frames(preface=False)
    list(reader.feed(FIRST))
    head = DataFrame(1, b"x" * 10_000_000).serialize()[:9]
    assert sum(len(frame.payload) for frame in reader.feed(head + bytes(1000))) == 1000
    assert not reader.between
    for _ in range(100):
        ((_, _, _, payload, last),) = reader.feed(bytes(50_000))
        assert (len(payload), last) == (50_000, False)


def test_where_a_frame_may_be_put_in() -> None:
    reader = Frames(preface=False)
    assert not reader.between
    places: list[int] = []
    for number, byte in enumerate(
        FIRST + sent(HeadersFrame(1, b"a"), ContinuationFrame(1, b"b", flags=["END_HEADERS"]))
    ):
        list(reader.feed(bytes([byte])))
        if reader.between:
            places.append(number + 1)
    assert places == [len(FIRST), len(FIRST) + 20]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "preface"),
        (PREFACE + sent(PingFrame(0, b"12345678")), "no SETTINGS"),
        (PREFACE + sent(SettingsFrame(0, flags=["ACK"])), "no SETTINGS"),
        (PREFACE + FIRST + sent(HeadersFrame(1, b"a"), PingFrame(0, b"12345678")), "interrupted"),
        (PREFACE + FIRST + sent(ContinuationFrame(1, b"a")), "interrupted"),
        (PREFACE + FIRST + sent(HeadersFrame(1, b"a"), ContinuationFrame(3, b"b")), "another stream"),
        (PREFACE + FIRST + sent(HeadersFrame(1, b"a"), *[ContinuationFrame(1, bytes(200_000))] * 3), "too long"),
        (PREFACE + FIRST + sent(HeadersFrame(1, bytes(600_000))), "600000 bytes"),
        (PREFACE + FIRST + b"\0\0\x02\x01\x0c\0\0\0\x01\xff\0", "padding"),
    ],
)
def test_what_is_no_http_2_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BrokenFrames, match=why):
        list(Frames(preface=True).feed(data))


def test_the_farewell_is_a_frame() -> None:
    frame, length = Frame.parse_frame_header(memoryview(goaway()[:9]))
    frame.parse_body(memoryview(goaway()[9:]))
    assert (length, frame.last_stream_id, frame.error_code) == (8, 2**31 - 1, 0)  # type: ignore[attr-defined]

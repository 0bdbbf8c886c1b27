"""What a rule names leaves the event, whatever its bytes look like, and everything else stays as it was written."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.redaction import WITHHELD, Redaction
from tests.memory import most_traced

SSN = "$.instances[*].ssn"
BINARY = (
    b'{"parameters": {"user": "jane"}, "inputs": [{"name": "age", "parameters": {"binary_data_size": 4}}, '
    b'{"name": "n", "data": [7]}]}'
)


def event(data: bytes, **extensions: str) -> CloudEvent:
    return CloudEvent("1", "test", REQUEST_TYPE, extensions=extensions, data=data)


@pytest.mark.parametrize(
    ("rule", "body", "kept"),
    [
        (SSN, b'{"instances": [{"ssn": "1", "a": 2}, {"a": 3}]}', b'{"instances": [{"ssn": null, "a": 2}, {"a": 3}]}'),
        (SSN, b'{"instances": [{"ssn": {"n": 1}}]}', b'{"instances": [{"ssn": null}]}'),
        (
            SSN,
            b'{"instances": [{"ssn": 1, "ssn": 2}], "instances": [{"ssn": 3}]}',
            b'{"instances": [{"ssn": null, "ssn": null}], "instances": [{"ssn": null}]}',
        ),
        (SSN, b'{"inst\\u0061nces": [{"ss\\u006e": 1}]}', b'{"inst\\u0061nces": [{"ss\\u006e": null}]}'),
        (SSN, gzip.compress(b'{"instances": [{"ssn": 1}]}', mtime=0), b'{"instances": [{"ssn": null}]}'),
        (
            SSN,
            b'{"specversion": "1.0", "data": {"instances": [{"ssn": 1}]}}',
            b'{"specversion": "1.0", "data": {"instances": [{"ssn": null}]}}',
        ),
        (
            "$.instances[*][1]",
            b'{"instances": [[1, 2], [3], [4, 5, 6]]}',
            b'{"instances": [[1, null], [3], [4, null, 6]]}',
        ),
        ("$.instances[-1]", b'{"instances": [1, 2]}', b'{"instances": [1, null]}'),
        ("$['a b'].*", b'{"a b": {"x": 1, "y": [2]}}', b'{"a b": {"x": null, "y": null}}'),
        (
            "$.inputs[?@.name == 'ssn'].data[*]",
            b'{"inputs": [{"name": "ssn", "data": [1, 2]}, {"name": "age", "data": [3]}]}',
            b'{"inputs": [{"name": "ssn", "data": [null, null]}, {"name": "age", "data": [3]}]}',
        ),
        (
            '$.inputs[?(@.name=="ssn")].data',
            b'{"inputs": [{"name": "ssn", "data": 1}]}',
            b'{"inputs": [{"name": "ssn", "data": null}]}',
        ),
    ],
)
def test_null_stands_for_what_a_path_names(rule: str, body: bytes, kept: bytes) -> None:
    assert Redaction([rule]).body(body) == kept


def test_each_value_of_a_stream_is_a_body() -> None:
    stream = (
        b'\xef\xbb\xbf: ping\r\nevent: a.b\r\ndata: {"user": "jane", "n":1.10} \r\n\r\nid: 7\ndata:\n'
        b'data:{"user":null}\n\ndata: "user"\n\ndata: [DONE]\n\n'
    )
    assert Redaction(["$.user"]).body(stream) == stream.replace(b'"jane"', b"null")
    assert Redaction(["$.n.user"]).body(stream) is stream
    for many in (b"data:1\n" * 250_001, b":\n" * 1_000_001):
        assert Redaction(["$.user"]).body(many) == WITHHELD


@pytest.mark.parametrize(
    ("rule", "head", "kept"),
    [
        ("$.inputs[?@.name == 'ssn'].data[*]", BINARY, BINARY),
        ("$.parameters.user", BINARY, BINARY.replace(b'"jane"', b"null")),
        ("$.inputs[1].data[0]", BINARY, BINARY.replace(b"[7]", b"[null]")),
        ("$.inputs[?@.name == 'age'].data[*]", BINARY, None),
        ("$.*[*].data", BINARY, None),
        (
            "$.inputs[0]",
            BINARY.replace(b'"binary_', b'"bin\\u0061ry_', 1).replace(b"jane", b'\\"binary_data_size"'),
            None,
        ),
        ("$.*", BINARY, None),
        ("$.user", b'{"user": "jane", "a": {"binary_data_size": 1}}', None),
    ],
)
def test_of_binary_tensors_a_body_is_withheld_only_where_a_path_leads_to_one(
    rule: str, head: bytes, kept: bytes | None
) -> None:
    tail = b"\0\0\x80\x3f"
    assert Redaction([rule]).body(head + tail) == (WITHHELD if kept is None else kept + tail)


def test_every_other_value_stays_as_it_was_written() -> None:
    body = b'{"instances":[{"ssn":1,"a":1.10,"b":123456789012345678901234567890,"c":NaN,"d":1e-7,"e":"\xc3\xbc"}]}'
    assert Redaction([SSN]).body(body) == body.replace(b'"ssn":1', b'"ssn":null')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"instances": [ [1.10, 2] ]}',
        b'{"instances": [{"age": "ssn"}]}',
        b'{"instances": {"ssn": 1}}',
        b'[{"ssn": 1}]',
        gzip.compress(b'{"instances": [1]}', mtime=0),
        b'{"inputs": [{"name": "ssn", "parameters": {"binary_data_size": 4}}]}\0\0\x80\x3f',
    ],
)
def test_a_body_without_it_stays_byte_for_byte(body: bytes) -> None:
    assert Redaction([SSN]).body(body) is body


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"ssn": 1}',
        b'{"x":%s1%s,"instances":[{"ssn":1}]}' % (b"[" * 300, b"]" * 300),
        b'{"instances": [{"ssn": 1, "name": "\xff"}]}',
        b'{"instances": [{"ssn": 1}]}\0\0\x80\x3f',
        b'{"a": [{"ssn": 1}]}' * 2 + b'{"instances": [{"ssn": 1}]}',
        b"\0\0\0\0\x09ssn",
        b'data: {}\n\ndata: {"instances": [{"ssn"\n\ndata: [DONE]\n\n',
        b'data: {}\nx-ssn: {"instances": [{"ssn": 1}]}\n',
        b": it is 078/05\n",
        b'event: {"instances": [{"ssn": 1}]}\n',
        '{"instances": [{"ssn": 1}]}'.encode("utf-16"),
        '{"instances": [{"ssn": 1}], "a": [NaN, "\u614e\u4e61"]}'.encode("utf-16-le"),  # has the bytes of NaN
        b"[" * 100_000,
        b'\xef\xbb\xbf{"instances": [{"ssn": 1}]}',
        b'\xef\xbb\xbf{"instances": [{"ssn": 1}], "pad": "%b"}' % bytes(5000).hex().encode(),
        b'{"instances": [{"ssn": 1}], "pad": "%b", "a": 1NaN}' % bytes(5000).hex().encode(),
        gzip.compress(b"not JSON", mtime=0),
        gzip.compress(b'{"instances": [{"ssn": 1}]}', mtime=0)[:-9],
    ],
)
def test_a_body_that_cannot_be_searched_is_withheld(body: bytes) -> None:
    kept = Redaction([SSN]).body(body)
    assert kept == WITHHELD


@pytest.mark.parametrize("big", ["123456789012345678901234", "1"])
def test_large_bodies_are_searched_where_simdjson_is_missing_or_refuses_them(
    big: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if big == "1":
        monkeypatch.setitem(sys.modules, "simdjson", None)
    rows = json.dumps([[[0.5, -1e-05, None, 3] * 4, []] * 40] * 40)
    head, tail = b'{"instances": [{"ssn": 1}], ', f'"big": [{big}], "rows": {rows}}}'.encode()
    with most_traced(8 * len(tail)):  # half of what lists take
        assert Redaction([SSN]).body(head + tail) == head.replace(b'"ssn": 1', b'"ssn": null') + tail
    for broken in (b"+1", b"01", b".5", b"1.", b"1 2", b"[1]2", b'"\\u[1]000"'):
        assert Redaction([SSN]).body(head + tail.replace(b"1e-05", broken)) == WITHHELD


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    return str(path)


def hashed(text: str, key: bytes = b"s3cret") -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_hashes_keep_equal_values_equal_in_headers_and_bodies(key_file: str) -> None:
    by = {"action": "hash", "key_file": key_file}
    redaction = Redaction([{"path": "$.rows[*].ssn", **by}, {"header": "X-User", **by}])
    rows = b'{"rows":[{"ssn":"jane","a":1.10},{"ssn":123},{"ssn":"123"},{"ssn":1.50},{"ssn":null},{"ssn":[1,"a"]}]}'
    kept = redaction.event(event(rows, metadata='{"X-User":["jane","123"],"A":["1"]}', xuser="jane"))
    jane, number = hashed("jane"), hashed("123")
    values = [row["ssn"] for row in json.loads(kept.data)["rows"]]
    assert values == [jane, number, number, hashed("1.50"), None, hashed('[1,"a"]')]
    assert hashed("[1,[2.50]]").encode() in redaction.body(b'{"rows":[{"ssn":[1, [2.50] ]}]}')
    assert kept.data.startswith(b'{"rows":[{"ssn":"' + jane.encode() + b'","a":1.10}')
    assert json.loads(kept.extensions["metadata"]) == {"X-User": [jane, number], "A": ["1"]}
    assert kept.extensions["xuser"] == jane


def test_an_object_is_hashed_whole_without_its_arrays_becoming_lists(key_file: str) -> None:
    redaction = Redaction([{"path": "$.rows[*].x", "action": "hash", "key_file": key_file}])
    row = '{"x":{"t":"[1, 2]\\" [","b":[1, 2.50,null ],"a":{"c":[[1e5], [ 2],[]]}}}'
    assert hashed('{"a":{"c":[[1e5],[2],[]]},"b":[1,2.50,null],"t":"[1, 2]\\" ["}').encode() in redaction.body(
        b'{"rows":[%b]}' % row.encode()
    )
    image = json.dumps([[0.5, -1e-05] * 1000] * 40)
    body = f'{{"rows":[{{"x":{{"label":"cat","image":{image}}}}}]}}'.encode()
    with most_traced(8 * len(body)):  # half of what lists take
        kept = redaction.body(body)
    assert hashed(f'{{"image":{image.replace(" ", "")},"label":"cat"}}').encode() in kept


def test_masks_show_the_end_of_what_is_long() -> None:
    redaction = Redaction([{"path": "$.*", "action": "mask"}, {"header": "x-card", "action": "mask"}])
    body = b'{"a":"4111111111111111","b":"12345678","c":123456789,"d":true,"e":null,"f":["secret"],"g":[ 123456789]}'
    kept = redaction.event(event(body, metadata='{"X-Card":["4111111111111111"]}'))
    masked = {"a": "****1111", "b": "****", "c": "****6789", "d": "****", "e": None, "f": "****", "g": "****"}
    assert json.loads(kept.data) == masked
    assert kept.extensions["metadata"] == '{"X-Card":["****1111"]}'


def test_rules_as_mappings_drop_as_texts_do() -> None:
    body = b'{"instances": [{"ssn": 1}]}'
    metadata = '{"X-User":["jane"],"A":["1"]}'
    kept = [
        Redaction(rules).event(event(body, metadata=metadata))
        for rules in ([SSN, "headers.x-user"], [{"path": SSN}, {"header": "x-user", "action": "drop"}])
    ]
    assert kept[0] == kept[1]
    assert kept[0].extensions["metadata"] == '{"A":["1"]}'


@pytest.mark.parametrize("action", ["drop", "hash", "mask"])
@pytest.mark.parametrize("body", [b'{"instances": [{"ssn": 1}', b"\0\0\0\0\x09ssn", b'{"instances":[{"ssn":1}]}{}'])
def test_every_action_withholds_what_cannot_be_searched(action: str, body: bytes, key_file: str) -> None:
    rule = {"path": SSN, "action": action} | ({"key_file": key_file} if action == "hash" else {})
    assert Redaction([rule]).body(body) == WITHHELD


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({}, "a rule has either `path` or `header`"),
        ({"path": "$.a", "header": "b"}, "a rule has either `path` or `header`"),
        ({"path": "a"}, "'a': a rule is `headers.NAME`, or a JSON path"),
        ({"path": 1}, "path: 1 is no text"),
        ({"header": "a b"}, "'a b' is no name of a header"),
        ({"header": "a", "action": "shred"}, "'shred' is none of drop, hash, mask"),
        ({"header": "a", "action": "hash"}, "`key_file` names the file with the key of a `hash`"),
        ({"header": "a", "key_file": "k"}, "`key_file` names the file with the key of a `hash`"),
        ({"header": "a", "action": "hash", "key_file": "/no/such"}, "/no/such: No such file"),
        ({"header": "a", "action": "hash", "key_file": "/dev/null"}, "/dev/null: the file is to hold a key"),
        ({"headers": "a"}, "headers: unknown key; allowed here: path, header, action, key_file"),
        (7, "7: a rule is `headers.NAME`"),
    ],
)
def test_a_mapping_that_is_no_rule_is_refused(rule: Any, fault: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - compared below
        Redaction([rule])
    assert str(raised.value).startswith(fault)


def test_headers_leave_the_metadata_and_the_attributes() -> None:
    redaction = Redaction(["headers.X-User"])
    metadata = '{"X_USER":["jane"],"inner":[{"x-user":"jane"}],"Accept":["*/*"]}'
    kept = redaction.event(event(b"jane", metadata=metadata, **{"x-user": "jane"}, path="/v1")).extensions
    assert kept == {"metadata": '{"inner":[{}],"Accept":["*/*"]}', "path": "/v1"}
    assert redaction.event(event(b"", metadata="x-user: jane")).extensions == {}
    assert redaction.event(event(b"", metadata='["x-user"]')).extensions == {}
    assert redaction.event(event(b"", metadata="null", namespace="a")).extensions == {
        "metadata": "null",
        "namespace": "a",
    }


def test_what_identifies_an_event_is_no_header() -> None:
    redaction = Redaction(["headers.namespace", "headers.metadata"])
    assert redaction.attributes({"namespace": "a", "metadata": "{}"}) == {"namespace": "a", "metadata": "{}"}


def test_an_event_that_holds_nothing_of_it_is_the_same_object() -> None:
    untouched = event(b'{"instances":[1]}', metadata='{"Accept":["*/*"]}')
    assert Redaction([SSN, "headers.x-user"]).event(untouched) is untouched
    assert Redaction().event(untouched) is untouched


def test_the_key_is_that_of_what_is_kept() -> None:
    first, second = (event(b'{"instances":[{"ssn":%d}]}' % number) for number in (1, 2))
    assert first.key() != second.key()
    assert Redaction([SSN]).event(first).key() == Redaction([SSN]).event(second).key()


@pytest.mark.parametrize(
    "rule", ["", "$", "ssn", "$..ssn", "headers.", "headers.a b", "$.a[", "$.a b", "$.a[?@.b > 1]"]
)
def test_a_rule_that_cannot_be_read_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"a rule is `headers.NAME`, or a JSON path"):
        Redaction([rule])

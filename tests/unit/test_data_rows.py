"""The reader: what it accepts, and what it says to every kind of broken file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinetune.data import jsonl
from pinetune.data.rows import check_lengths, load_rows, read_rows, write_rows
from pinetune.errors import DataError

USER = {"role": "user", "content": "2+2?"}
GOOD = '{"messages": [{"role": "user", "content": "2+2?"}], "reference_answer": "4"}'


def complaints_of(path: Path, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_rows(path, **options)
    prefix = str(path)
    assert all(text.startswith(prefix) for text in caught.value.complaints)
    return [text.removeprefix(prefix) for text in caught.value.complaints]


def complain(tmp_path: Path, content: str | bytes) -> list[str]:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return complaints_of(path)


def one_row(**item: Any) -> str:
    return json.dumps({"messages": [USER], **item})


def test_reads_rows_and_keeps_the_whole_row_as_item(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{GOOD}\n{one_row(answer=[1, None, {'x': 0.5}])}", encoding="utf-8")
    first, second = load_rows(path)
    assert (first.index, first.line, first.messages, first.tools) == (0, 1, (USER,), ())
    assert first.item == {"messages": [USER], "reference_answer": "4"}
    assert (second.index, second.line, second.item["answer"]) == (1, 2, [1, None, {"x": 0.5}])


def test_crlf_gzip_and_blank_lines_at_the_end_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(f"{GOOD}\r\n{GOOD}\r\n\r\n\n".encode()))
    assert [row.line for row in read_rows(path)] == [1, 2]


def test_what_gzip_unpacks_to_has_an_end_and_a_billion_blank_lines_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_UNPACKED_BYTES", 1 << 30)
    path = tmp_path / "train.jsonl"
    path.write_bytes(gzip.compress(f"{GOOD}\n".encode()) + gzip.compress(b"\n" * 5000) + gzip.compress(f"{GOOD}\n".encode()))
    told = complaints_of(path)
    assert told[0] == ":2: blank line; delete it" and told[-1] == ": ... and 1 more"  # the first 21 stand for all
    monkeypatch.setattr(jsonl, "MAX_UNPACKED_BYTES", 100)
    assert complaints_of(path) == [":26: unpacked, the file has more than 0 GiB. Reading stops here"]
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert len(complaints_of(path)) == 21  # a file that is as long as it looks is read to its end


def test_text_parts_become_one_string_for_the_template(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    parts = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
    write_rows(path, [{"messages": [{"role": "user", "name": "ann", "content": parts}]}])
    (row,) = load_rows(path)
    assert row.messages == ({"role": "user", "name": "ann", "content": "2+2?"},)
    assert row.item["messages"][0]["content"] == parts


def test_a_conversation_with_tools_is_a_row(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}, "strict": True}}
    messages = [
        {"role": "developer", "content": "Use the tool."},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Sure?"},
    ]
    path = tmp_path / "train.jsonl"
    write_rows(path, [{"messages": messages, "tools": [tool], "parallel_tool_calls": False}])
    (row,) = load_rows(path)
    assert row.tools == (tool,)
    assert row.messages == tuple(messages)


BAD_LINES = [
    ('{"messages": [', ":1: column 15: not JSON (Expecting value); write one JSON object per line"),
    ("{", ":1: column 2: not JSON (Expecting property name enclosed in double quotes); the file looks like one JSON document"),
    ("[", ":1: column 2: not JSON (Expecting value); the file looks like one JSON document over many lines"),
    (GOOD + ",", ":1: column 77: not JSON (Extra data); write one object per line, without commas between the lines"),
    ("[1]", ":1: a list, not an object; write each row as {...} on a line of its own"),
    ('"text"', ":1: a string, not an object"),
    ("null", ":1: null, not an object"),
    ("{}", ':1: messages: missing; write "messages": [{"role": "user", "content": "..."}]'),
    (
        '{"text": "x", "label": 1}',
        ':1: messages: missing; write "messages": [{"role": "user", "content": "..."}] (keys found: label, text)',
    ),
    ('{"question": "2+2?"}', ":1: messages: missing; turn 'question' into"),
    ('{"item": {}}', ":1: messages: missing; this looks like an evals file"),
    ('{"input": {}, "preferred_output": []}', ":1: messages: missing; this looks like a preference (DPO) file"),
    ('{"messages": "hi"}', ":1: messages: a string; write a list"),
    ('{"messages": []}', ":1: messages: the list is empty"),
    ('{"messages": ["hi"]}', ":1: messages[0]: a string, not an object"),
    ('{"messages": [{"content": "hi"}]}', ":1: messages[0].role: missing; use one of developer, system, user, assistant, tool"),
    ('{"messages": [{"role": "bot", "content": "hi"}]}', ':1: messages[0].role: unknown role "bot"; use one of'),
    ('{"messages": [{"role": ["user"], "content": "hi"}]}', ':1: messages[0].role: unknown role ["user"]; use one of'),
    ('{"messages": [{"role": "user"}]}', ":1: messages[0].content: missing; write the text"),
    ('{"messages": [{"role": "user", "content": null}]}', ":1: messages[0].content: null; write a string or a list of"),
    ('{"messages": [{"role": "user", "content": " "}]}', ":1: messages[0].content: the user's message is empty"),
    ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', ":1: messages[0].content[0]: images are not supported"),
    ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', ":1: messages[0].content[0]: not a text part"),
    (
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        ":1: messages[1].role: the last message must be the user's, since the model samples the answer; move the reference",
    ),
    ('{"messages": [{"role": "system", "content": "a"}]}', ":1: messages[0].role: the last message must be the user's, not 'system'"),
    (one_row(tools={}), ":1: tools: an object; write a list of function tools"),
    (one_row(tools=[{"name": "add"}]), ":1: tools[0]: not a function tool"),
    (one_row(tools=[{"type": "function", "function": {"name": "a b"}}]), ":1: tools[0].function.name: missing or malformed"),
    (
        one_row(tools=[{"type": "function", "function": {"name": "a", "parameters": "none"}}]),
        ":1: tools[0].function.parameters: a string; write a JSON schema object",
    ),
    (one_row(tools=[{"type": "function", "function": {"name": "a"}}] * 2), ":1: tools[1].function.name: 'a' is declared twice"),
    (one_row(parallel_tool_calls="yes"), ":1: parallel_tool_calls: a string; write true or false"),
    ('{"a": {"b": [0, {"c": 1, "c": 2}]}}', ":1: a.b[1].c: the key is there twice"),
    ('{"messages": [], "x": [1, NaN]}', ":1: x[1]: NaN is not a JSON number"),
    ('{"messages": [], "x": -Infinity}', ":1: x: -Infinity is not a JSON number"),
    ('{"messages": [], "x": 1e999}', ":1: x: 1e999 is not a JSON number"),
    ('{"x": ' + "1" * 5000 + "}", ":1: a number of thousands of digits"),
    ('{"x": ' + "[" * 200 + "]" * 200 + "}", ":1: nested more than 100 levels deep"),
    ("[" * 200_000, ":1: nested more than 100 levels deep"),
    ('{"x": "\\ud800"}', ":1: \\ud800 is half of a surrogate pair"),
    (b'{"x": "caf\xe9"}', ":1: not UTF-8: byte 0xe9 at offset 10 of the file; save the file as UTF-8"),
    (b"\xef\xbb\xbf" + GOOD.encode(), ":1: the file starts with a byte-order mark; save it as UTF-8 without BOM"),
    (GOOD.encode("utf-16"), ": not JSONL but UTF-16 text: save it as UTF-8"),
    (b"PK\x03\x04....", ": not JSONL but a zip archive"),
    (gzip.compress(GOOD.encode() * 99)[:40], ": damaged gzip file"),
    ("", ": the file is empty; write one JSON object per line"),
    (" \n\r\n\t\n", ": holds nothing but blank lines; write one JSON object per line"),
    (f"{GOOD}\n\n{GOOD}\n", ":2: blank line; delete it"),
    ('{"\\u001b[31m\\n": 1, "\\u001b[31m\\n": 2}', ":1: \\x1b[31m\\x0a: the key is there twice"),
]


@pytest.mark.parametrize(("content", "expected"), BAD_LINES, ids=[expected[:60] for _, expected in BAD_LINES])
def test_one_fault_one_clear_line(tmp_path: Path, content: str | bytes, expected: str) -> None:
    (complaint,) = complain(tmp_path, content)
    assert complaint.startswith(expected)


def test_offset_of_a_bad_byte_counts_from_the_start_of_the_file(tmp_path: Path) -> None:
    content = GOOD.encode() + b"\n" + b'{"x": "\xff"}\n'
    (complaint,) = complain(tmp_path, content)
    assert complaint.startswith(f":2: not UTF-8: byte 0xff at offset {content.index(0xFF)} of the file")


def test_every_fault_of_a_row_is_told(tmp_path: Path) -> None:
    row = {"messages": [{"role": "bot", "content": 1}, {"role": "assistant", "content": "x"}], "tools": 0}
    assert [text.split(":")[2].strip() for text in complain(tmp_path, json.dumps(row))] == [
        "messages[0].role",
        "messages[0].content",
        "messages[1].role",
        "tools",
    ]


def test_twenty_complaints_then_a_number(tmp_path: Path) -> None:
    found = complain(tmp_path, "{}\n" * 33)
    assert len(found) == 21
    assert found[19].startswith(":20: messages: missing")
    assert found[20] == ": ... and 13 more"


def test_no_rows_after_the_first_fault(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{GOOD}\n{{}}\n{GOOD}\n")
    seen = []
    with pytest.raises(DataError):
        for row in read_rows(path):
            seen.append(row.line)
    assert seen == [1]


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD)
    assert complaints_of(tmp_path / "trian.jsonl") == [f": no such file; did you mean {tmp_path / 'train.jsonl'}?"]
    assert complaints_of(tmp_path / "elsewhere" / "train.jsonl") == [": no such file; check the path"]
    assert complaints_of(tmp_path) == [": a folder, not a file; name the JSONL file in it"]
    with pytest.raises(DataError, match="embedded null byte"):
        load_rows("a\0b")


def test_a_limit_on_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{GOOD}\n" * 4)
    assert len(load_rows(path, max_rows=4)) == 4
    assert complaints_of(path, max_rows=3) == [":4: more than 3 rows, the limit for one file; use fewer rows"]


def test_a_huge_line_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1 << 20)
    (complaint,) = complain(tmp_path, GOOD + "\n" + '{"x": "' + "a" * (2 << 20) + '"}\n{}\n')
    assert complaint == ":2: the line is longer than 1 MiB; is this JSONL, one row per line? Reading stops here"


def test_overlong_prompts_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_rows(path, [{"messages": [{"role": "user", "content": "x" * n}]} for n in (3, 9, 5, 12)])
    rows = load_rows(path)
    assert check_lengths(rows, lambda row: len(row.messages[0]["content"]), 12) == [3, 9, 5, 12]
    with pytest.raises(DataError) as caught:
        check_lengths(rows, lambda row: len(row.messages[0]["content"]), 8, file="train.jsonl")
    todo = "; shorten the row, leave it out, or ask for shorter answers"
    assert caught.value.complaints == [
        f"train.jsonl:2: messages: 9 tokens, 1 more than the model has room for (8){todo}",
        f"train.jsonl:4: messages: 12 tokens, 4 more than the model has room for (8){todo}",
    ]


def test_written_rows_come_back(tmp_path: Path) -> None:
    items = [{"messages": [{"role": "user", "content": "naïve \u2028 \U0001f9ec"}], "x": [1, 2.5, None, True]}]
    write_rows(tmp_path / "new" / "rows.jsonl", items)
    assert [row.item for row in load_rows(tmp_path / "new" / "rows.jsonl")] == items
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows.jsonl"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "role", "content", "tools", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.lists(JSON_VALUES, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
def test_whatever_the_bytes_only_a_data_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.jsonl"
    for raw in (content, gzip.compress(content), b"\x1f\x8b" + content):
        path.write_bytes(raw)
        try:
            rows = load_rows(path)
        except DataError as error:
            assert all(text.startswith(str(path)) and "\n" not in text for text in error.complaints)
        else:
            assert all(row.messages[-1]["role"] == "user" for row in rows)

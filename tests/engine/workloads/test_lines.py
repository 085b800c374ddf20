import gzip

import pytest

from fastswitch.engine.workloads.errors import WorkloadError
from fastswitch.engine.workloads.lines import Line, Place, numbered_lines


def lines_of(path):
    return list(numbered_lines(path))


def message_of(path):
    with pytest.raises(WorkloadError) as caught:
        lines_of(path)
    return str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a"])
def test_gzip_is_told_by_the_first_bytes(tmp_path, pack, name):
    path = tmp_path / name
    path.write_bytes(pack("ä\r\n\n \nb".encode()))
    assert lines_of(path) == [Line(Place(path, 1), "ä"), Line(Place(path, 4), "b")]


def test_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert [line.text for line in lines_of(path)] == ["a"]


def test_a_unicode_line_separator_is_no_line_end(tmp_path):
    path = tmp_path / "a"
    path.write_text("a\u2028b\n", encoding="utf-8")
    assert [line.text for line in lines_of(path)] == ["a\u2028b"]


@pytest.mark.parametrize("data", [b"", b"\n \n\t\r\n", gzip.compress(b"")])
def test_nothing_to_read(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    assert lines_of(path) == []


def test_missing_file(tmp_path):
    assert message_of(tmp_path / "a") == f"{tmp_path}/a: no such file"


def test_folder(tmp_path):
    assert message_of(tmp_path) == f"{tmp_path}: is a folder; name a file in it"


def test_a_file_used_as_a_folder(tmp_path):
    (tmp_path / "a").touch()
    assert message_of(tmp_path / "a" / "b") == f"{tmp_path}/a/b: cannot be read (Not a directory)"


def test_not_utf8(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"ok\nno\xff\n")
    assert message_of(path) == f"{path}:2: must be UTF-8 text, got byte 0xff at column 3; convert the file"


def test_gzip_cut_short(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(b"one\ntwo\n")[:-6])
    with pytest.raises(WorkloadError) as caught:
        lines_of(path)
    # how much of the text is delivered before the end is missed differs between Python versions
    place, message = str(caught.value).split(": ", 1)
    assert place in {f"{path}:{line}" for line in (1, 3)}
    assert message == "the gzip data ends early; the file is cut short, fetch it again"


def test_gzip_broken(tmp_path):
    path = tmp_path / "a"
    packed = bytearray(gzip.compress(b"one\ntwo\n"))
    packed[-5] ^= 1
    path.write_bytes(packed)
    with pytest.raises(WorkloadError, match=r"^.*:1: the gzip data is broken \(CRC.*\); fetch the file again$"):
        lines_of(path)

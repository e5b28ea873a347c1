"""Text files are read in one way; files are written whole or stay as they were."""

import os
from pathlib import Path

import pytest

from asr.files import ReadError, WriteError, read_lines, read_text, whole_file, write_figures
from features.errors import EarshotError


class OtherError(EarshotError, OSError):
    """What a reader of files raises."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("all of it")
    assert path.read_text() == "all of it" and names(tmp_path) == ["a.txt", "new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OtherError, ValueError])
def test_what_goes_wrong_leaves_the_last_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the last one")
    with pytest.raises(error), whole_file(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "the last one" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("place", ["file/a.txt", "folder"])
def test_a_place_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    refusal = pytest.raises(
        WriteError, match=rf"^{tmp_path}/{place}: cannot be written .*; repeat$"
    )
    with refusal, whole_file(tmp_path / place, "repeat") as part:
        part.write_text("lost")
    assert names(tmp_path) == ["file", "folder"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    write_figures(link, {"n": 1})
    assert link.is_symlink() and target.read_text() == '{\n  "n": 1\n}\n'


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_figures(pipe, {"n": 1})
    assert os.read(reader, 100) == b'{\n  "n": 1\n}\n' and pipe.is_fifo()
    os.close(reader)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(mark + "größe\n".encode())
    assert read_text(tmp_path / "a.txt") == "größe\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a\nb", ["a", "b"]),
        ("a\r\n\r\nb\r\n", ["a", "", "b"]),
        ("a\u2028b\u0085c\x0bd\x0ce\rf\x1cg\n", ["a\u2028b\u0085c\x0bd\x0ce\rf\x1cg"]),
    ],
)
def test_only_line_feeds_end_lines(tmp_path: Path, content: str, lines: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert read_lines(tmp_path / "a.txt") == lines


def test_what_cannot_be_read_as_text_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größe".encode("latin-1"))
    for name, complaint in [
        ("a.txt", r"a word list \(byte 3 is not UTF-8\); save it as text in UTF-8$"),
        ("none.txt", r"a word list \(No such file or directory\); name a text file$"),
        ("\0.txt", r"a word list \(embedded null byte\); name a text file$"),
    ]:
        with pytest.raises(ReadError, match=f"{name}: cannot be read as {complaint}"):
            read_lines(tmp_path / name, "a word list")


def test_of_writers_at_once_each_writes_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("first " * 100)
        second.write_text("second " * 200)
    assert path.read_text() == "first " * 100  # it ended last
    assert names(tmp_path) == ["a.txt"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    with whole_file(path) as part:
        part.write_text("long")
    assert path.read_text() == "long"


def test_a_new_file_can_be_read_by_whom_the_system_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole") as part:
        part.write_text("text")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode

"""Standard output that is closed, and text with escape sequences."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noctile.workflows.processes.output import EscapedOutput, ForgivingOutput, escaped_output


def test_what_a_terminal_would_act_on_is_printed_as_text() -> None:
    file = io.StringIO()
    EscapedOutput(file).write("a\x1b[2J\tb\r\n\x9bc")
    assert file.getvalue() == "a\\x1b[2J\tb\\r\n\\x9bc"


def test_a_program_that_controls_the_terminal_writes_unchanged() -> None:
    file = io.StringIO()
    EscapedOutput(file).unescaped.write("\x1b[2K")
    assert file.getvalue() == "\x1b[2K"


def test_a_closed_pipe_discards_text() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as file:
        output = ForgivingOutput(file)
        output.write("x" * 2**20)
        output.flush()


def test_the_streams_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with escaped_output():
        sys.stdout.write("\x1b\n")
    assert sys.stdout is before
    assert capsys.readouterr().out == "\\x1b\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    code = (
        "import sys\n"
        "from noctile.workflows.processes.output import open_closed_streams\n"
        "open_closed_streams()\n"
        "print('text')\n"
        "print('text', file=sys.stderr)\n"
        f"assert open({str(tmp_path / 'a')!r}, 'w').fileno() > 2\n"
    )
    words = ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0
    assert (tmp_path / "a").read_text() == ""

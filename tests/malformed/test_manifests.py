"""Manifests that do damage."""

from pathlib import Path

import pytest
from malformed.calls import slides_of
from malformed.refusals import DIGITS, refusal

from noctile.pipeline.slides.manifest import read_manifest


class TestManifest:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xff\xfep\0a\0t\0h\0", "is not UTF-8"),
            (b"path\n\xe9.svs\n", "is not UTF-8"),
            (b"path\na\0b.svs\n", "control character"),
            (b'path\n"a\nb.svs"\n', "control character"),
            (b"path\n~nobody-of-that-name/a.svs\n", "home"),
            (
                b"path," + b",".join(b"c%d" % k for k in range(1_000_000)) + b"\na.svs\n",
                "columns, more than 1000",
            ),
            (b"path\n" + b"a" * 200_000 + b"\n", "field larger than field limit"),
            (b'path\n"a.svs\n', "unexpected end of data"),
            (b"\0" * 1000, "no column slide_id or path"),
            (b"slide_id\nCON\n", "Windows"),
            (b"slide_id\nnul.a\n", "Windows"),
            (b"slide_id\na.\n", "Windows"),
            (b"slide_id\n../a\n", "dot"),
            (b"slide_id\na/b\n", "control character or one of"),
            (b"slide_id\na\\b\n", "control character or one of"),
            (b"slide_id\na\x1bb\n", "control character or one of"),
            (b"slide_id\n" + b"a" * 300 + b"\n", "longer than 128 bytes"),
            ("slide_id\nA\u0301\n\u00c1\n".encode(), "was used before"),
            ("slide_id\na\u202eb\n".encode(), "cannot be printed"),
            (b"path,mpp\na.svs," + DIGITS.encode() + b"\n", "is not a positive number"),
            (b"path,mpp\na.svs,nan\n", "is not a positive number"),
            (b"path,mpp\na.svs,1e999\n", "is not a positive number"),
            (b"path,mpp\na.svs,-0.25\n", "is not a positive number"),
        ],
        ids=lambda value: repr(value)[:24],
    )
    def test_a_bad_manifest_is_an_error_with_the_reason(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        (tmp_path / "m.csv").write_bytes(content)
        assert says in refusal(slides_of, tmp_path / "m.csv")

    def test_a_circular_path_in_a_manifest_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").symlink_to("a.svs")
        (tmp_path / "m.csv").write_text("path\na.svs\n")
        assert slides_of(tmp_path / "m.csv") == ["a"]

    def test_an_endless_device_is_no_manifest(self) -> None:
        assert "pipe or a device, not a file" in refusal(read_manifest, Path("/dev/zero"))

import re

from noctile.pipeline.flags import FLAG_MEANINGS, flag_meaning


def test_each_flag_of_the_documentation_has_the_same_meaning(repo):
    text = (repo / "docs" / "flags.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(#[\w-]+\) \| (.+?) \|", text, re.MULTILINE)
    assert dict(rows) == FLAG_MEANINGS


def test_flags_of_other_versions_have_no_meaning():
    assert flag_meaning("of another version") == ""
    assert flag_meaning("seams") == FLAG_MEANINGS["seams"]

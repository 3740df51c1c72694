"""captions.json: which prompts a picture has, and what is no such list."""

import json

import pytest

from sd_core.captions import read_captions
from sd_core.errors import ConfigError


def write(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "captions.json").write_text(text, "utf-8")


def test_a_picture_has_one_prompt_or_several(tmp_path):
    assert read_captions(tmp_path) is None
    write(tmp_path, {"b.png": " a bear ", "cats/a.png": ["a cat", "a grey cat"], "c.png": []})
    assert list(read_captions(tmp_path).items()) == [
        ("b.png", ("a bear",)),
        ("cats/a.png", ("a cat", "a grey cat")),
        ("c.png", ()),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "captions.json': it is no table"),
        ({"a.png": 3}, "'a.png' has neither a prompt nor a list of prompts"),
        ({"a.png": ["a", 3]}, "'a.png' has neither a prompt nor a list of prompts"),
        ({"../a.png": "a fox"}, "'../a.png' is no file in its folder"),
        ({"/etc/hosts": "a fox"}, "'/etc/hosts' is no file in its folder"),
        ("{", "captions.json': Expecting property name"),
        ("[" * 100_000, "captions.json'"),
    ],
    ids=str,
)
def test_what_is_no_such_list_is_one_line_that_says_so(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(ConfigError) as raised:
        read_captions(tmp_path)
    assert message in str(raised.value) and "\n" not in str(raised.value)

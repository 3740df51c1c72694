"""Lists of prompts: the one that comes with the package, and files of the user's own."""

import pytest

from sd_core.errors import ConfigError
from sd_metrics.prompt_lists import NAMED, named_list, prompts_of, read_prompts


def refused(call):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(folder, text, encoding="utf-8"):
    path = folder / "mine.txt"
    path.write_bytes(text.encode(encoding))
    return path


def test_every_named_list_can_be_read_and_says_where_it_is_from():
    for name, about in NAMED.items():
        assert named_list(name) and about


def test_the_table_of_usd_has_22_prompts_without_broken_words():
    prompts = named_list("usd-table-7")
    assert len(prompts) == 22
    assert all(prompt.endswith(".") and "- " not in prompt for prompt in prompts)
    assert prompts[1] == "A bald eagle carved out of wood features."
    assert prompts[4] == "A DSLR photo of a beagle in a detective’s outfit."
    assert prompts[10] == "A DSLR photo of a squirrel playing guitar."
    assert prompts[11] == "A peacock on a surfboard."
    assert prompts[16].startswith("DSLR Camera, photography, dslr, camera, noobie, box-modeling")
    assert prompts[21].endswith("reading a book, super cute, highly detailed and colored.")


def test_an_unknown_list_is_refused_with_the_ones_there_are():
    message = refused(lambda: named_list("usd-table-8"))
    assert "no list of prompts 'usd-table-8'" in message
    assert "Did you mean 'usd-table-7'?" in message


def test_a_file_has_a_prompt_a_line_and_comments_and_blank_lines_do_not_count(tmp_path):
    text = "\ufeff# mine\na red bear\r\n\r\n   A cat # of two colours  \n  # no prompt\na blue fox"
    expected = ("a red bear", "A cat # of two colours", "a blue fox")
    assert read_prompts(written(tmp_path, text)) == expected


def test_a_prompt_that_is_there_twice_is_refused_with_both_lines(tmp_path):
    path = written(tmp_path, "# mine\na red bear\na blue fox\na red bear \n")
    message = refused(lambda: read_prompts(path))
    assert "mine.txt: line 4 repeats the prompt 'a red bear' of line 2" in message
    assert len(read_prompts(written(tmp_path, "a red bear\nA red bear\n"))) == 2


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n"])
def test_a_file_without_prompts_is_refused_by_name(tmp_path, text):
    path = written(tmp_path, text)
    assert "mine.txt has no prompts" in refused(lambda: read_prompts(path))


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    message = refused(lambda: read_prompts(tmp_path / "none.txt"))
    assert "none.txt: No such file" in message
    assert "cannot read" in refused(lambda: read_prompts(tmp_path))
    latin = written(tmp_path, "a café\n", "latin-1")
    assert "mine.txt: it is no UTF-8 text" in refused(lambda: read_prompts(latin))


def test_a_list_is_named_or_is_a_file(tmp_path):
    assert prompts_of("usd-table-7") == named_list("usd-table-7")
    assert prompts_of(str(written(tmp_path, "a bear\n"))) == ("a bear",)

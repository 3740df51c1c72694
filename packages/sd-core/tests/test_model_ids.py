"""Short names, ids, folders and the environment variables that override them."""

import pytest

from sd_core.errors import ConfigError
from sd_core.priors.diffusion.model_ids import (
    RETIRED,
    SHORT_NAMES,
    ModelId,
    find_model,
    variable_of,
)


@pytest.mark.parametrize(
    ("short", "owner"),
    [
        ("sd15", "stable-diffusion-v1-5"),
        ("sd21-base", "sd2-community"),
        ("sd21", "sd2-community"),
        ("sdxl", "stabilityai"),
    ],
)
def test_short_names_are_ids_of_their_present_owners(short, owner):
    where = find_model(short).where
    assert where == SHORT_NAMES[short]
    assert where.id.partition("/")[0] == owner
    assert where.licence_page == f"https://huggingface.co/{where.id}"


def test_no_short_name_leads_to_a_retired_id():
    assert not {model.id for model in SHORT_NAMES.values()} & set(RETIRED)
    assert set(RETIRED.values()) <= set(SHORT_NAMES)


def test_a_revision_pins_a_short_name_and_an_id():
    assert find_model("sd15", "abc").where.revision == "abc"
    assert find_model("owner/name", "v1").where == ModelId("owner/name", "v1")


def test_a_folder_is_taken_as_it_is(tmp_path):
    source = find_model(str(tmp_path))
    assert source.where == tmp_path
    assert source.name == str(tmp_path)


def test_the_variable_is_named_after_the_model():
    assert variable_of("sd21-base") == "SD_CORE_MODEL_SD21_BASE"
    assert variable_of("owner/some.name") == "SD_CORE_MODEL_OWNER_SOME_NAME"


@pytest.mark.parametrize("model", ["sd21-base", "owner/name"])
def test_the_variable_names_a_folder_to_load_instead(model, tmp_path, monkeypatch):
    monkeypatch.setenv(variable_of(model), str(tmp_path))
    assert find_model(model).where == tmp_path


def test_the_variable_may_name_another_id(monkeypatch):
    monkeypatch.setenv("SD_CORE_MODEL_SD15", "owner/copy")
    assert find_model("sd15").where == ModelId("owner/copy")


def test_a_variable_that_leads_nowhere_is_named(monkeypatch):
    monkeypatch.setenv("SD_CORE_MODEL_SD15", "/no/such/folder")
    with pytest.raises(ConfigError) as error:
        find_model("sd15")
    assert str(error.value) == (
        "SD_CORE_MODEL_SD15 is '/no/such/folder', which is no folder, no id such as owner/name and "
        "none of the short names: sd15, sd21-base, sd21, sdxl."
    )


def test_a_misspelt_short_name_gets_the_nearest():
    with pytest.raises(ConfigError) as error:
        find_model("sd21base")
    assert str(error.value) == (
        "prior.model is 'sd21base', which is no folder, no id such as owner/name and none of the "
        "short names: sd15, sd21-base, sd21, sdxl. Did you mean 'sd21-base'?"
    )


def test_a_single_file_is_refused_with_the_conversion(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(ConfigError, match="which is a file, expected a folder") as error:
        find_model(str(path))
    assert "from_single_file(FILE).save_pretrained(FOLDER)" in str(error.value)


def test_a_revision_of_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="only models of the hub have revisions"):
        find_model(str(tmp_path), "main")

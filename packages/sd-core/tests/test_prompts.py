"""The words for a view follow the camera's angles; folder names are safe and do not collide."""

import math
import re
import subprocess
import sys

import pytest

from sd_core.cameras import sheet_cameras, turntable
from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.prompts import PromptOptions, View, folder_name, view_of, view_text, view_texts

BEAR = PromptOptions(text="a red bear")


def seen(azimuth_deg: float, elevation_deg: float, options: PromptOptions = BEAR) -> View:
    return view_of(math.radians(azimuth_deg), math.radians(elevation_deg), options)


def published_rule(azimuth: float, elevation: float, options: PromptOptions) -> str:
    """The rule as the threestudio family states it, with each line overriding those above."""
    azimuth = (azimuth + 180) % 360 - 180
    view = "side"
    if -options.front_threshold_deg < azimuth < options.front_threshold_deg:
        view = "front"
    if azimuth > 180 - options.back_threshold_deg or azimuth < -180 + options.back_threshold_deg:
        view = "back"
    if elevation > options.overhead_threshold_deg:
        view = "overhead"
    return view


@pytest.mark.parametrize("threshold", [45, 30, 100])
def test_views_follow_the_published_rule_all_around(threshold: float) -> None:
    options = PromptOptions(text="a", front_threshold_deg=threshold, back_threshold_deg=threshold)
    for azimuth in range(-719, 720, 7):
        for elevation in (-89, -10, 0, 45, 59, 61, 89):
            expected = published_rule(azimuth, elevation, options)
            assert seen(azimuth, elevation, options) == expected, (azimuth, elevation)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "view"),
    [(0, 0, "front"), (44, 0, "front"), (-44, 0, "front"), (46, 0, "side"), (90, 0, "side"),
     (-90, 0, "side"), (134, 0, "side"), (136, 0, "back"), (180, 0, "back"), (-180, 0, "back"),
     (360, 0, "front"), (0, 61, "overhead"), (180, 90, "overhead"), (0, -90, "front")],
)  # fmt: skip
def test_each_sector_has_its_view(azimuth: float, elevation: float, view: str) -> None:
    assert seen(azimuth, elevation) == view


def test_a_camera_on_a_threshold_is_a_side_view_at_either_hand() -> None:
    texts = view_texts(BEAR, turntable(8))
    words = [text.removeprefix("a red bear, ").removesuffix(" view") for text in texts]
    assert words == ["front", "side", "side", "side", "back", "side", "side", "side"]


def test_texts_are_those_of_the_cameras_in_order() -> None:
    cameras = sheet_cameras(elevations_deg=(80.0, 15.0))
    assert view_texts(BEAR, cameras) == [
        "a red bear, overhead view", "a red bear, overhead view",
        "a red bear, overhead view", "a red bear, overhead view",
        "a red bear, front view", "a red bear, side view",
        "a red bear, back view", "a red bear, side view",
    ]  # fmt: skip


def test_the_prefix_form_puts_the_view_first() -> None:
    options = PromptOptions(text="a bear", views="prefix", back_words="backside view")
    assert view_text(options, "side") == "side view of a bear"
    assert view_text(options, "back") == "backside view of a bear"


def test_without_view_words_every_camera_gets_the_plain_prompt() -> None:
    options = PromptOptions(text="a bear", views="none")
    assert view_texts(options, sheet_cameras()) == ["a bear"] * 12


def refusal(**values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_options(PromptOptions, {"text": "a bear", **values}, where="prompt")
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused_with_an_example(text: str) -> None:
    assert refusal(text=text) == (
        'prompt.text: the prompt is empty: say what to make, for example "a red bear"'
    )


def test_a_missing_prompt_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompt\.text is missing"):
        parse_options(PromptOptions, {}, where="prompt")


@pytest.mark.parametrize("character", ["\n", "\t", "\x00", "\x1b", "\u2028"])
@pytest.mark.parametrize("name", ["text", "negative", "side_words"])
def test_control_characters_are_refused_and_named(character: str, name: str) -> None:
    assert refusal(**{name: f"a red{character}bear"}) == (
        f"prompt.{name}: the text holds a control character (U+{ord(character):04X}) "
        "after 'a red': write it on one line, in visible characters"
    )


def test_empty_view_words_are_refused_with_the_remedy() -> None:
    assert refusal(back_words=" ") == (
        'prompt.back_words: the words for a view are empty: name it, for example "side view", '
        'or set views = "none" for the plain prompt'
    )


def test_prompts_keep_any_script_and_lose_outer_spaces() -> None:
    assert PromptOptions(text="  ein Bär 🐻‍❄️ と熊\n").text == "ein Bär 🐻‍❄️ と熊"
    assert PromptOptions(text="a bear").negative == ""


def test_every_option_is_described() -> None:
    assert all(field.description for field in PromptOptions.model_fields.values())


def test_a_plain_prompt_is_its_own_folder_name() -> None:
    assert folder_name("a red bear") == "a-red-bear"
    assert folder_name("3 bears") == "3-bears"


AWKWARD = [
    "", " ", ".", "..", "../../etc/passwd", "/", "\\", "C:\\bear", "a/b", "-rf", "--help", "~",
    "con", "CON", "nul", "com1", "lpt9", "con.txt", "bear.", ".bear", "a:b*c?d\"e<f>g|h", "$HOME",
    "`x`", "熊", "🐻", "Bär", "Bar", "bar", "a\nb", "a\0b", "\ud800", "a red bear", "A red bear",
    "a-red-bear", "a  red bear", "a red bear!", "a red bear ", "x" * 300, "x" * 301, "word " * 40,
    "ﬁne", "fine",
]  # fmt: skip


@pytest.mark.parametrize("limit", [15, 24, 60, 200])
def test_every_text_has_a_safe_folder_name_of_its_own(limit: int) -> None:
    names = [folder_name(text, limit) for text in AWKWARD]
    reserved = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
    for text, name in zip(AWKWARD, names, strict=True):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name), text
        assert len(name) <= limit
        assert name not in reserved
    assert len(set(names)) == len(AWKWARD)


def test_folder_names_are_the_same_in_every_process() -> None:
    assert folder_name("A red bear") == "a-red-bear_197e414e"
    assert folder_name("") == "prompt_e3b0c442"


def test_a_limit_without_room_for_the_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="needs room for 15 characters, not 14"):
        folder_name("a", limit=14)


def test_reading_prompts_loads_no_torch() -> None:
    code = "import sys, sd_core.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

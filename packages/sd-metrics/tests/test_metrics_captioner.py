"""Captions: greedy search written out, and the nearest of several texts."""

import shutil

import pytest
import torch

from sd_core.encoders.clip import Clip
from sd_core.errors import ConfigError
from sd_metrics.captioner import LONGEST, BlipCaptioner, ClassCaptioner, build_captioner
from tiny_readers import (
    CPU,
    END,
    WORDS,
    cosines,
    normalised,
    pictures,
    save_blip,
    save_clip,
    transformers,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXTS = ("a red bear", "a blue bear", "a fox", "a red fox on a bear")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return save_blip(tmp_path_factory.mktemp("blip"))


def refused(call):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def greedy(folder, image):
    """The likeliest word after the words so far, until the end."""
    model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    tokens = [WORDS.index("[DEC]")]
    with torch.no_grad():
        while len(tokens) <= LONGEST and tokens[-1] != WORDS.index(END):
            said = model(pixel_values=normalised(image), input_ids=torch.tensor([tokens]))
            tokens.append(int(said.logits[0, -1].argmax()))
    special = [WORDS.index(word) for word in SPECIAL]
    return " ".join(WORDS[token] for token in tokens[1:] if token not in special)


def test_one_beam_says_the_likeliest_word_after_each_other(blip):
    images = pictures(3)
    found = BlipCaptioner(str(blip), CPU, beams=1).captions(images)
    assert found == [greedy(blip, image[None]) for image in images]
    assert len(set(found)) > 1 and all(found)  # or nothing was compared


def test_captions_are_the_same_again_and_alone(blip):
    captioner, images = BlipCaptioner(str(blip), CPU), pictures(3)
    together = captioner.captions(images)
    assert together == captioner.captions(images)
    assert together == [captioner.captions(image[None])[0] for image in images]


def test_no_random_number_is_drawn(blip):
    captioner, before = BlipCaptioner(str(blip), CPU), torch.get_rng_state()
    captioner.captions(pictures(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_nearest_text_is_said(clip):
    images = pictures(6)
    found = ClassCaptioner(Clip(str(clip), device=CPU), TEXTS).captions(images)
    alike = torch.stack([cosines(clip, images, text) for text in TEXTS])
    assert found == [TEXTS[index] for index in alike.argmax(dim=0).tolist()]
    assert len(set(found)) > 1


def test_a_model_comes_before_the_texts(blip, clip):
    def built(model):
        return build_captioner(model, clip=str(clip), texts=TEXTS, device=CPU)

    assert isinstance(built(str(blip)), BlipCaptioner)
    assert isinstance(built(None), ClassCaptioner)


def test_neither_a_model_nor_texts_is_refused(clip):
    message = refused(lambda: build_captioner(None, clip=str(clip), texts=(), device=CPU))
    assert "no texts to choose from" in message


def test_another_kind_of_model_is_refused(clip):
    message = refused(lambda: BlipCaptioner(str(clip), CPU))
    assert "it is a clip, and a BLIP is needed here" in message


def test_a_blip_without_the_words_is_refused(blip, tmp_path):
    shutil.copytree(blip, tmp_path, dirs_exist_ok=True)
    whole = transformers.BlipForConditionalGeneration.from_pretrained(blip)
    eye = {k: v for k, v in whole.state_dict().items() if k.startswith("vision_model")}
    whole.save_pretrained(tmp_path, state_dict=eye)
    assert "weights missing" in refused(lambda: BlipCaptioner(str(tmp_path), CPU))


def test_a_folder_that_is_not_there_is_refused():
    assert "cannot load the model" in refused(lambda: BlipCaptioner("/no/such/folder", CPU))


def test_the_recipe_names_the_weights_and_the_beams(blip, clip):
    recipe = BlipCaptioner(str(blip), CPU).recipe()
    assert recipe["captioner"]["model"] == blip.name and recipe["beams"] == 3
    chosen = ClassCaptioner(Clip(str(clip), device=CPU), TEXTS).recipe()
    assert chosen["captioner"]["clip"]["model"] == clip.name

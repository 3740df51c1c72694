"""Which end of the principal component is the object, by the borders or by attention."""

import pytest
import torch
from torch import Generator

pytest.importorskip("transformers")

from sd_core.config import parse_options
from sd_core.errors import ConfigError
from sd_core.priors.image_bank import ImageBankPrior
from sd_core.testing import exact
from sd_guidance_usd.classifiers import build_matching
from sd_guidance_usd.options import USDOptions
from sd_guidance_usd.templates import save_pictures
from tiny_world import encoder_folder

PROMPT = "a toy"


class Attentive(ImageBankPrior):
    """Attends to what it is told to."""

    def __init__(self, saliency):
        super().__init__(torch.rand(2, 3, 8, 8), [[PROMPT], [PROMPT]])
        self.told, self.asked = saliency, []

    def saliency(self, images, prompt):
        self.asked.append((tuple(images.shape), prompt))
        return self.told


@pytest.fixture(scope="module")
def mask_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("polarity")
    encoder = encoder_folder(root / "encoder")
    pictures = torch.rand(3, 3, 28, 28, generator=Generator().manual_seed(0))
    save_pictures(root / "templates", dict(zip(("front", "side", "back"), pictures, strict=True)))

    def build(prior, polarity):
        classifier = {"model": str(encoder), "templates": str(root / "templates"), "grid": 4}
        classifier |= {"polarity": polarity, "augmentations": 0, "kind": "matching"}
        config = parse_options(USDOptions, {"classifier": classifier}, where="guidance")
        return build_matching(config, exact.guidance_context(prior, PROMPT)).template_mask

    return build


def test_the_border_asks_no_prior(mask_of):
    prior = Attentive(None)
    mask_of(prior, "border")
    assert not prior.asked


def test_the_object_is_where_the_prior_attends_to_the_prompt(mask_of):
    border = mask_of(Attentive(None), "border")
    here, elsewhere = Attentive(border.float()), Attentive(40 - border.float())
    assert torch.equal(mask_of(here, "attention"), border)
    turned = mask_of(elsewhere, "attention")
    assert torch.equal(turned, ~border)
    assert here.asked == [((4, 3, 28, 28), PROMPT)]  # a mirrored side, too


def test_a_prior_without_attention_is_refused(mask_of):
    with pytest.raises(ConfigError) as error:
        mask_of(Attentive(None), "attention")
    assert str(error.value) == (
        "guidance.classifier.polarity is attention, but this prior has no attention to words. Set "
        "it to border."
    )


def test_polarity_is_for_matching():
    table = {"classifier": {"kind": "text", "polarity": "attention"}}
    with pytest.raises(ConfigError, match=r"classifier.polarity is for the kind matching"):
        parse_options(USDOptions, table, where="guidance")

"""The CLIP model's training: which captions are true, and losses that fall."""

import pytest
import torch
from torch import Generator

from sd_toybox.model.clip_reader import similarities
from sd_toybox.model.networks import TINY
from sd_toybox.model.tokenizer import new_tokenizer
from sd_toybox.train.clip import (
    ClipTask,
    caption_of,
    contrastive_loss,
    facts_of,
    truth,
)
from sd_toybox.train.data import draw_labels
from sd_toybox.train.plan import Phase
from sd_toybox.train.task import TrainingState, training_step
from sd_toybox.world.captions import parse_caption
from sd_toybox.world.kinds import COLOURS, KINDS
from sd_toybox.world.poses import POSES
from sd_toybox.world.samples import WorldSamples, draw_pictures
from untrained_models import some_pictures, untrained_networks

PHASE = Phase(steps=24, batch=16, rate=5e-3, warm_up=2)


@pytest.fixture(scope="module")
def labels():
    return draw_labels("judge", 120, Generator().manual_seed(0))


@pytest.fixture(scope="module")
def samples():
    generator = Generator().manual_seed(0)
    few = draw_labels("judge", 32, generator)
    return WorldSamples(draw_pictures(few, generator), few)


def is_true(said, labels, row):
    """By what a reader takes from the caption."""
    view = {"front": "front", "back": "back"}.get(POSES[labels.pose[row]], "side")
    return (
        said.kind == KINDS[labels.kind[row]]
        and said.colour == COLOURS[labels.colour[row]]
        and said.view in (None, view)
        and set(said.words) <= set(labels.words[row])
    )


def test_a_caption_is_true_of_its_own_picture_and_of_those_it_describes(labels):
    facts = facts_of(labels)
    drawn = torch.rand(2, len(labels), generator=Generator().manual_seed(1)) < 0.5
    texts = [
        caption_of(facts, row, view=bool(drawn[0, row]), words=bool(drawn[1, row]))
        for row in range(len(labels))
    ]
    found = truth(facts, drawn[0], drawn[1])
    said = [parse_caption(text) for text in texts]
    expected = [[is_true(caption, labels, row) for caption in said] for row in range(len(labels))]
    assert torch.equal(found, torch.tensor(expected))
    assert found.diagonal().all()
    assert found.sum() > 1.5 * len(labels) and not torch.equal(found, found.T)


def test_where_each_picture_has_one_caption_the_loss_is_that_of_clip():
    networks = untrained_networks()
    tokens = new_tokenizer()
    ids = tokens(["a red bear", "a blue bus"], padding=True, return_tensors="pt").input_ids
    pictures = 2 * some_pictures(2) - 1
    with torch.no_grad():
        theirs = networks["clip"](input_ids=ids, pixel_values=pictures, return_loss=True)
        seen = networks["clip"].vision_model(pictures).pooler_output
        read = networks["clip"].text_model(ids).pooler_output
        logits = networks["clip"].logit_scale.exp() * similarities(networks["clip"], seen, read)
    torch.testing.assert_close(logits, theirs.logits_per_image)
    ours = contrastive_loss(logits, torch.eye(2, dtype=torch.bool))
    torch.testing.assert_close(ours, theirs.loss)


def test_the_loss_is_least_where_the_true_captions_share_the_picture():
    true = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    best = contrastive_loss(50.0 * true.float(), true)
    one_of_two = contrastive_loss(50.0 * torch.eye(3), true)
    assert float(best) == pytest.approx(2 / 3 * torch.tensor(2.0).log().item(), abs=1e-4)
    assert one_of_two > best + 1


def test_the_losses_fall(samples):
    task = ClipTask(samples, PHASE, TINY, tokenizer=new_tokenizer(), seed=0)
    state = TrainingState(task)
    logs = [training_step(task, state, 0) for _ in range(PHASE.steps)]
    for name in ("loss", "contrast", "azimuth", "patches"):
        first, last = (sum(each[name] for each in some) for some in (logs[:4], logs[-4:]))
        assert last < first, name


def test_texts_are_cut_only_where_they_are_empty(samples):
    """The same losses with the whole window: causal attention never looks back from the filling."""
    task = ClipTask(samples, PHASE, TINY, tokenizer=new_tokenizer(), seed=0)
    task.clip.eval()
    rows, lengths = torch.arange(16), []
    text_model = task.clip.text_model
    forward = text_model.forward

    def whole(tokens):
        lengths.append(tokens.shape[1])
        filling = torch.full((len(tokens), 48 - tokens.shape[1]), task._end)
        return forward(torch.cat([tokens, filling], dim=1))

    short = task.losses(0, rows, Generator().manual_seed(0))
    text_model.forward = whole
    long = task.losses(0, rows, Generator().manual_seed(0))
    assert lengths[0] < 48
    torch.testing.assert_close(short, long)

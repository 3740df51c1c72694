"""Two judges of pictures: the nearest render, and the CLIP model."""

from math import radians, tau

import pytest
import torch

from sd_core.cameras import orbit_cameras
from sd_toybox.model.folders import CLIP
from sd_toybox.train.judges import ClipJudge, RenderJudge
from sd_toybox.world.kinds import COLOURS, KINDS
from sd_toybox.world.pictures import world_pictures


def orbit(azimuth, **changes):
    azimuth = torch.as_tensor(azimuth, dtype=torch.float32)
    angles = {"elevation": radians(12.0), "distance": 2.02, "vertical_fov": radians(39.5)} | changes
    return orbit_cameras(
        azimuth=azimuth, **{name: torch.full_like(azimuth, value) for name, value in angles.items()}
    )


@pytest.fixture(scope="module")
def renders():
    return RenderJudge(8, (10.0,), kinds=("bear", "mug"), colours=("red", "grey"))


@pytest.mark.parametrize(("kind", "colour"), [("bear", "grey"), ("mug", "red")])
def test_the_nearest_render_names_kind_colour_and_azimuth(renders, kind, colour):
    azimuth = (torch.arange(8) + 0.5) * (tau / 8) + 0.1
    verdict = renders(world_pictures(kind, colour, orbit(azimuth)))
    assert set(verdict.kind.tolist()) == {KINDS.index(kind)}
    assert set(verdict.colour.tolist()) == {COLOURS.index(colour)}
    torch.testing.assert_close(verdict.azimuth, azimuth - 0.1)
    assert verdict.pose.tolist() == [0, 1, 1, 2, 2, 3, 3, 0]


def test_the_clip_judge_reads_texts_and_heads_as_they_are_saved(model_folder):
    judge = ClipJudge(model_folder / CLIP)
    pictures = world_pictures("bear", "red", orbit([0.0, 1.0, 2.0]))
    verdict = judge(pictures)
    reader = judge._reader
    model, texts = reader.model, reader.texts
    with torch.no_grad():
        vectors = model.get_image_features(2 * pictures - 1).pooler_output
        words = model.text_projection(texts)
        pooled = model.vision_model(2 * pictures - 1).pooler_output
        azimuth = (reader.head(pooled).argmax(1) + 0.5) * (tau / 24)
    best = torch.nn.functional.cosine_similarity(vectors[:, None], words[None], dim=-1).argmax(1)
    assert torch.equal(verdict.kind * len(COLOURS) + verdict.colour, best)
    torch.testing.assert_close(verdict.azimuth, azimuth)


def test_a_clip_judge_that_finds_its_text_says_what_it_says(model_folder, monkeypatch):
    """With a model whose pictures and texts are one-hot, the answer is known."""
    judge = ClipJudge(model_folder / CLIP)
    hits = torch.tensor([0, 9, 63])
    monkeypatch.setattr(
        "sd_toybox.model.clip_reader.similarities",
        lambda model, pooled, texts: torch.nn.functional.one_hot(hits, len(texts)).float(),
    )
    verdict = judge(torch.zeros(3, 3, 64, 64))
    assert [KINDS[kind] for kind in verdict.kind] == [KINDS[0], KINDS[1], KINDS[7]]
    assert [COLOURS[colour] for colour in verdict.colour] == [COLOURS[0], COLOURS[1], COLOURS[7]]

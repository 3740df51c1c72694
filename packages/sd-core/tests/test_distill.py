import math
import weakref

import pytest
import torch
from torch import nn

from sd_core.cameras import CameraBatch, orbit_cameras
from sd_core.distill import backward, distill
from sd_core.errors import ConfigError, NonFiniteGradientError
from sd_core.guidance import AbstractGuidance, Guided
from sd_core.prior import AbstractPrior
from sd_core.renderer import AbstractRenderer, Rendering
from sd_core.step import Step


class Line(AbstractRenderer):
    """View i shows i·θ + θ²; the regularisation is κ·Σθ."""

    def __init__(self, kappa=0.0):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.kappa = kappa
        self.prepared = []

    def prepare(self, step, generator):
        self.prepared.append(step)

    def forward(self, cameras):
        pixels = cameras.azimuth[:, None] * self.theta + self.theta.square()
        return Rendering(pixels.view(-1, 2, 1, 1))

    def regularisation(self, rendering):
        return self.kappa * self.theta.sum() if self.kappa else None


class Tripling(AbstractPrior):
    """Latents are three times the pictures."""

    latent_shape = (2, 1, 1)
    device = torch.device("cpu")

    def encode(self, images, *, generator=None):
        return 3 * images

    def encode_text(self, prompts, cameras=None):
        raise NotImplementedError

    decode = predict_noise = new_estimator = encode_text


class Told(AbstractGuidance):
    """A gradient that was given, and a diary."""

    def __init__(self, gradient):
        super().__init__()
        self.name = "told"
        self.given = gradient
        self.diary = []

    def gradient(self, latents, cameras, *, step, generator):
        self.diary.append(("gradient", latents, step))
        noise = torch.rand(1, generator=generator)
        return Guided(self.given, 100 * (1 + torch.arange(len(latents))), {"mine": 1.0}, noise)

    def update_estimator(self, latents, cameras, guided, *, step, generator):
        self.diary.append(("update", latents, step))
        self.observed = guided.observed
        return {"loss": 2.0}


def views(generator) -> CameraBatch:
    azimuth, ones = torch.arange(3.0), torch.ones(3)
    return orbit_cameras(azimuth=azimuth, elevation=ones, distance=ones, vertical_fov=ones)


GRADIENT = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [4.0, -1.0]]).view(3, 2, 1, 1)


def run(scene, guidance, steps=range(1), **options):
    return distill(
        renderer=scene,
        prior=Tripling(),
        guidance=guidance,
        sample_cameras=views,
        optimiser=options.pop("optimiser", None) or torch.optim.SGD(scene.parameters(), lr=1.0),
        generator=torch.Generator().manual_seed(0),
        steps=steps,
        **options,
    )


@pytest.mark.parametrize("kappa", [0.0, 0.7])
def test_the_scene_moves_by_the_batch_mean_and_the_regularisation(kappa):
    """Δθ = -(1/b)·Σᵢ gᵢ·3·(i + 2θ) - κ, by hand."""
    scene = Line(kappa)
    start = scene.theta.detach().clone()
    list(run(scene, Told(GRADIENT)))
    by_hand = torch.stack([GRADIENT[i].flatten() * 3 * (i + 2 * start) for i in range(3)])
    assert torch.allclose(scene.theta, start - by_hand.sum(dim=0) / 3 - kappa)


def test_a_batch_of_equal_samples_moves_as_one_sample():
    one, many = (nn.Parameter(torch.tensor([[1.0]])) for _ in range(2))
    backward(one.view(1, 1, 1, 1) * 2, torch.full((1, 1, 1, 1), 5.0), None)
    backward(many.expand(4, 1).view(4, 1, 1, 1) * 2, torch.full((4, 1, 1, 1), 5.0), None)
    assert torch.equal(one.grad, many.grad)
    assert one.grad.item() == 10


def test_gradients_of_the_step_before_are_forgotten():
    scene = Line()
    still = torch.optim.SGD(scene.parameters(), lr=0.0)
    steps = run(scene, Told(GRADIENT), range(2), optimiser=still)
    first, second = (scene.theta.grad.clone() for _ in steps)
    assert torch.equal(first, second)


def test_guidance_sees_latents_without_a_graph():
    guidance = Told(GRADIENT)
    list(run(Line(), guidance))
    for _, latents, _ in guidance.diary:
        assert latents.grad_fn is None
        assert not latents.requires_grad


def test_a_gradient_that_a_method_makes_of_the_latents_never_reaches_the_scene():
    class Greedy(Told):
        def gradient(self, latents, cameras, *, step, generator):
            latents.requires_grad_()
            (1000 * latents.sum()).backward()
            return super().gradient(latents, cameras, step=step, generator=generator)

    scene, plain = Line(), Line()
    list(run(scene, Greedy(GRADIENT)))
    list(run(plain, Told(GRADIENT)))
    assert torch.equal(scene.theta, plain.theta)


def test_the_estimator_learns_after_the_scene_moved_and_from_the_same_latents():
    scene, guidance = Line(), Told(GRADIENT)
    optimiser = torch.optim.SGD(scene.parameters(), lr=1.0)
    optimiser.register_step_post_hook(lambda *_: guidance.diary.append(("moved", None, None)))
    list(run(scene, guidance, optimiser=optimiser))
    assert [what for what, _, _ in guidance.diary] == ["gradient", "moved", "update"]
    assert guidance.diary[0][1] is guidance.diary[2][1]
    assert guidance.observed.shape == (1,)


def test_a_step_is_done_only_when_it_is_asked_for():
    scene = Line()
    steps = run(scene, Told(GRADIENT), range(5))
    assert scene.prepared == []
    next(steps)
    assert len(scene.prepared) == 1


def test_steps_are_counted_within_the_whole():
    scene = Line()
    reports = list(run(scene, Told(torch.zeros(3, 2, 1, 1)), range(4, 7)))
    assert [report.step for report in reports] == [Step(4, 7), Step(5, 7), Step(6, 7)]
    assert [report.step for report in reports] == scene.prepared


def test_views_that_are_not_finite_are_not_blamed_on_the_method():
    scene = Line()
    with torch.no_grad():
        for parameter in scene.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(NonFiniteGradientError) as caught:
        list(run(scene, Told(torch.full((3, 2, 1, 1), torch.nan)), range(2, 3)))
    assert str(caught.value) == (
        "the scene's views are not finite at step 2: an earlier step broke it. "
        "Try a smaller learning rate or regularisation."
    )


def test_views_of_another_shape_than_the_priors_are_refused_by_their_sizes():
    class Tall(Line):
        def forward(self, cameras):
            return Rendering(super().forward(cameras).images.repeat(1, 1, 2, 1))

    told = r"views of shape \(2, 2, 1\) become latents of shape \(2, 2, 1\), .* \(2, 1, 1\)"
    with pytest.raises(ConfigError, match=told):
        list(run(Tall(), Told(GRADIENT)))


def test_a_report_holds_the_logs():
    (report,) = run(Line(), Told(GRADIENT))
    norm = GRADIENT.flatten(1).norm(dim=1).mean().item()
    assert report.logs == {
        "gradient_norm": pytest.approx(norm),
        "t": 200.0,
        "mine": 1.0,
        "loss": 2.0,
    }
    assert all(type(value) is float for value in report.logs.values())


def test_what_was_drawn_is_let_go_before_the_way_back():
    drawn, let_go = [], []

    class Deep(Line):
        def forward(self, cameras):
            rendering = Rendering(super().forward(cameras).images)
            drawn.append(weakref.ref(rendering))
            return rendering

    scene = Deep()
    scene.theta.register_hook(lambda _: let_go.append(drawn[-1]() is None))
    list(run(scene, Told(GRADIENT), range(2)))
    assert let_go == [True, True]


def test_a_regulariser_that_is_not_finite_stops_before_the_scene_moves():
    scene = Line(kappa=math.inf)
    start = scene.theta.detach().clone()
    with pytest.raises(NonFiniteGradientError) as caught:
        list(run(scene, Told(GRADIENT), range(7, 9)))
    assert str(caught.value) == (
        "the scene's own gradient is not finite at step 7, though the guidance's is. "
        "Try weaker regularisers or a smaller learning rate, or the prior's VAE in float32."
    )
    assert torch.equal(scene.theta, start)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_the_scene_moves(value):
    gradient = GRADIENT.clone()
    gradient[1:, 1] = value
    scene = Line()
    start = scene.theta.detach().clone()
    with pytest.raises(NonFiniteGradientError) as caught:
        list(run(scene, Told(gradient), range(812, 1000)))
    assert str(caught.value) == (
        "guidance 'told' gave a non-finite gradient at step 812 (t = 200, 2 of 3 samples). "
        "Try a smaller learning rate or guidance scale, or run the prior in float32."
    )
    assert torch.equal(scene.theta, start)
    assert scene.theta.grad is None

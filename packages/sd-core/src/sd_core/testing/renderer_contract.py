"""What every renderer promises."""

from copy import deepcopy

import pytest
import torch
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.renderer import AbstractRenderer, RendererContext
from sd_core.testing import exact
from sd_core.testing.contract import BATCH, STEP, Contract


class RendererContract(Contract):
    """What every renderer promises."""

    latent_shape: tuple[int, int, int] = (3, 16, 16)

    def make(self, context: RendererContext) -> AbstractRenderer:
        """The renderer under test, new. Override this."""
        raise NotImplementedError

    @pytest.fixture
    def renderer(self) -> AbstractRenderer:
        return self._fresh()

    def test_there_is_one_image_for_each_camera(self, renderer: AbstractRenderer) -> None:
        images = _render(renderer, exact.some_cameras(3))
        assert images.ndim == 4 and len(images) == 3
        assert images.isfinite().all()

    def test_every_parameter_gets_a_gradient(self, renderer: AbstractRenderer) -> None:
        _render(renderer, exact.some_cameras(3)).sum().backward()  # type: ignore[no-untyped-call]
        grouped = {id(p): p for group in renderer.parameter_groups(0.1) for p in group["params"]}
        assert grouped
        named = dict(renderer.named_parameters())
        forgotten = [n for n, p in named.items() if p.requires_grad and id(p) not in grouped]
        assert not forgotten, f"in no group of parameter_groups, never trained: {forgotten}"
        gradients = {name: p.grad for name, p in named.items() if id(p) in grouped}
        without = [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
        assert not without
        assert any(bool(g.any()) for g in gradients.values() if g is not None)

    def test_equal_generators_give_equal_bits(self) -> None:
        cameras = exact.some_cameras(3)
        first, second = (_render(self._fresh(), cameras) for _ in range(2))
        assert torch.equal(first, second)

    def test_batch_order_only_permutes_the_images(self, renderer: AbstractRenderer) -> None:
        cameras, order = exact.some_cameras(BATCH), [3, 0, 4, 1, 2]
        renderer.eval()
        straight = renderer(cameras).images
        shuffled = renderer(cameras.select(order)).images
        torch.testing.assert_close(shuffled, straight[order], rtol=1e-4, atol=1e-5)

    def test_global_random_state_stays_untouched(self, renderer: AbstractRenderer) -> None:
        before = torch.get_rng_state()
        _render(renderer, exact.some_cameras(2))
        assert torch.equal(torch.get_rng_state(), before)

    def test_its_state_dict_is_the_whole_scene(self, renderer: AbstractRenderer) -> None:
        with torch.no_grad():
            for parameter in renderer.parameters():
                parameter.add_(0.01)
        fresh = self._fresh()
        fresh.load_state_dict(deepcopy(renderer.state_dict()))
        cameras = exact.some_cameras(2)
        assert torch.equal(_render(fresh, cameras), _render(renderer, cameras))

    def test_previews_are_pictures_or_latents(self, renderer: AbstractRenderer) -> None:
        pictures = renderer.preview(exact.some_cameras(2)).images
        assert not pictures.requires_grad
        if pictures.shape[1:] == self.latent_shape != (3, *pictures.shape[2:]):
            return  # latents, which the host decodes
        assert pictures.shape[1] == 3
        assert ((pictures >= 0) & (pictures <= 1)).all()

    def test_previews_are_the_same_every_time(self, renderer: AbstractRenderer) -> None:
        first, second = (renderer.preview(exact.some_cameras(2)).images for _ in range(2))
        assert torch.equal(first, second)

    def _fresh(self) -> AbstractRenderer:
        return self.make(
            RendererContext(
                latent_shape=self.latent_shape,
                generator=Generator().manual_seed(0),
                device=torch.device("cpu"),
                encode=lambda images: images.new_zeros(len(images), *self.latent_shape),
            )
        )


def _render(renderer: AbstractRenderer, cameras: CameraBatch) -> Tensor:
    renderer.prepare(STEP, Generator().manual_seed(11))
    images: Tensor = renderer(cameras).images
    return images

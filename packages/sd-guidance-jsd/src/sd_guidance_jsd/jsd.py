"""Jensen–Shannon score distillation: as printed a difference, as released a sum of attractions."""

from jaxtyping import Float
from torch import Generator, Tensor

from sd_core.cameras import CameraBatch
from sd_core.condition import Texts
from sd_core.errors import ConfigError
from sd_core.guidance import GuidanceContext
from sd_core.inversion import level_at
from sd_core.noising import Noised
from sd_core.parameterisation import clean_from_noise
from sd_core.residual import Prediction, ResidualGuidance
from sd_core.shapes import Latents
from sd_core.step import Step
from sd_core.timesteps import highest_fraction, index_at
from sd_core.view_conditions import view_conditions
from sd_guidance_jsd.fixed_grid import hops_on_fixed_grid
from sd_guidance_jsd.gradients import attraction_target, attraction_weights, difference_weights
from sd_guidance_jsd.minority import invert, minority_sample, standard_normal
from sd_guidance_jsd.options import JSDOptions


class JSD(ResidualGuidance):
    """g = w(t)·(α/σ)·(ε̂(x̂_t, y) - ε̂(x̄_t, y)), eq. 12, or the released attraction.

    x̂_t is the picture inverted to t, x̄_t what the prior takes for its clean form with fresh noise.
    The attraction w(t)·[(z - x̂0_HD) + k·(z - x̂0_LD)] is a residual at x̂_t too, against the noise
    of the inversion (`attraction_target`). All predictions read the same view's text.
    """

    config: JSDOptions
    needs_own_noising = True

    def __init__(self, config: JSDOptions, context: GuidanceContext) -> None:
        super().__init__(config, context)
        highest = index_at(highest_fraction(config.timesteps), len(self.prior.schedule))
        if float(self.prior.schedule.alphas[highest]) == 0:
            bound = "every high of" if config.timesteps.schedule == "pieces" else "high of"
            raise ConfigError(
                f"guidance 'jsd' denoises in one step, but t = {highest} is pure noise on this "
                f"prior's schedule. Set {bound} its timesteps below 1."
            )

    def noised(
        self, latents: Latents, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Noised:
        """x̂_t, with the noise κ that leads there."""
        t = self.times(latents, step=step, generator=generator)
        texts, scale = self._texts(cameras), self.config.inversion.scale
        return invert(
            latents,
            t,
            options=self.config.inversion,
            schedule=self.prior.schedule,
            predict_noise=lambda noisy, level: self.prior.predict_guided(
                noisy, level, texts, scale=scale
            ),
            generator=generator,
        )

    def target(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        """ε̂(x̂_t, y); or the noise that leads to x̂_t from where both attractions pull."""
        if self.config.form == "difference":
            return super().target(noised, cameras, step=step, generator=generator)
        target, _ = self.sides(noised, cameras, step=step, generator=generator)
        return Prediction(target.noise)

    def source(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> Prediction:
        """ε̂(x̄_t, y); or the noise of the inversion."""
        if self.config.form == "attraction":
            return Prediction(noised.noise)
        _, source = self.sides(noised, cameras, step=step, generator=generator)
        return source

    def sides(
        self, noised: Noised, cameras: CameraBatch, *, step: Step, generator: Generator
    ) -> tuple[Prediction, Prediction]:
        """Both; the one call at x̂_t serves the gradient and the minority sample."""
        texts, schedule = self._texts(cameras), self.prior.schedule
        guided, denoising = self._at_inverted(noised, texts)
        logs = {"unet_calls": float(self._calls(noised))}
        if not self._asks_minority:  # where the inverted sample pulls alone, its ε is the target
            return Prediction(guided, logs=logs), Prediction(noised.noise)
        fresh = standard_normal(noised.noisy, generator)
        minority = minority_sample(noised, denoising, fresh, schedule=schedule)
        low = self.prior.predict_guided(minority.noisy, noised.t, texts, scale=self.config.scale)
        if self.config.form == "difference":
            return Prediction(guided, logs=logs), Prediction(low)
        alpha, sigma = level_at(schedule, noised.t, noised.noisy)
        target = attraction_target(
            noised.noisy,
            clean_from_noise(noised.noisy, guided, alpha=alpha, sigma=sigma),
            clean_from_noise(minority.noisy, low, alpha=alpha, sigma=sigma),
            low_density_weight=self.config.low_density_weight,
            alpha=alpha,
            sigma=sigma,
        )
        return Prediction(target, logs=logs), Prediction(noised.noise)

    def weights(self, noised: Noised, *, step: Step) -> Float[Tensor, "batch 1 1 1"]:
        weights = super().weights(noised, step=step)
        alpha, sigma = level_at(self.prior.schedule, noised.t, noised.noisy)
        if self.config.form == "difference":
            weights = difference_weights(weights, alpha=alpha, sigma=sigma)
        else:
            weights = attraction_weights(
                weights,
                low_density_weight=self.config.low_density_weight,
                alpha=alpha,
                sigma=sigma,
            )
        return weights / (noised.clean[0].numel() if self.config.reduction == "mean" else 1)

    def _texts(self, cameras: CameraBatch) -> Texts:
        """The same for the inversion and for both samples."""
        return view_conditions(self.prior, self.prompt, cameras)

    def _at_inverted(self, noised: Noised, texts: Texts) -> tuple[Latents, Latents]:
        """ε̂(x̂_t, y), and the ε that denoises x̂_t, from one call."""
        if self._texts_read(self.config.scale) == 1:
            text = self.prior.predict_noise(noised.noisy, noised.t, texts.text)
            return text, text
        guided, text = self.prior.predict_guided_and_text(
            noised.noisy, noised.t, texts, scale=self.config.scale
        )
        return guided, text if self.config.denoise == "text" else guided

    def _calls(self, noised: Noised) -> int:
        """How often the network is evaluated for each sample of this step: once for each text."""
        inversion = self.config.inversion
        hops = inversion.steps
        if inversion.grid == "fixed":
            hops = hops_on_fixed_grid(noised.t, inversion.steps, len(self.prior.schedule))
        samples = 2 if self._asks_minority else 1
        at_samples = self._texts_read(self.config.scale)
        return hops * self._texts_read(inversion.scale) + samples * at_samples

    def _texts_read(self, scale: float) -> int:
        """What the negative says counts for nothing at s = 1; Perp-Neg reads two more texts."""
        if self.prompt.perp_neg:
            return 4
        return 1 if scale == 1 else 2

    @property
    def _asks_minority(self) -> bool:
        return self.config.form == "difference" or self.config.low_density_weight > 0

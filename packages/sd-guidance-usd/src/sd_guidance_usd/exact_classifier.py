"""The classifier of an exact prior: Bayes' rule over its members."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sd_core.condition import Condition
from sd_core.errors import ConfigError
from sd_core.prior import AbstractPrior
from sd_core.priors.exact import ExactPrior
from sd_core.shapes import Latents, Timesteps
from sd_guidance_usd.phrases import text_of
from sd_guidance_usd.rectifier import LogProbabilities, Shares


class ExactClassifier:
    """p(c|x_t, y) = Σ_{k ∈ c} p(k|x_t, y), over the members k of the prior that y selects.

    Class c holds the members that answer to the text of c (`text_of`). Each member of y must be in
    exactly one class.
    """

    def __init__(self, prior: AbstractPrior, prompt: str, phrases: Mapping[str, str]) -> None:
        if not isinstance(prior, ExactPrior):
            raise ConfigError(
                "the exact classifier is for priors that are known exactly, such as image-bank. "
                "Set guidance.classifier.kind to matching."
            )
        self.prior = prior
        self.classes = tuple(phrases)
        texts = [text_of(prompt, phrase) for phrase in phrases.values()]
        rows = prior.encode_text([prompt, *texts]).tensors["log_weights"].isfinite()
        self._member_of = rows[1:]
        if bool((self._member_of.sum(dim=0) != rows[0].long()).any()):
            raise ConfigError(
                f"not every member of '{prompt}' is in exactly one class. Give each picture one "
                f"of the prompts {', '.join(repr(text) for text in texts)}, or name the classes "
                "that there are in guidance.classifier.phrases."
            )

    def log_of_noisy(self, noisy: Latents, t: Timesteps, condition: Condition) -> LogProbabilities:
        of_members = self.prior.log_joint(noisy, t, condition).log_softmax(dim=1)
        return self._of_classes(of_members).to(noisy.dtype)

    def shares(self, condition: Condition) -> Shares:
        return self._of_classes(condition.tensors["log_weights"][:1])[0].exp()

    def _of_classes(self, of_members: Tensor) -> Tensor:
        """log Σ_{k ∈ c} of exponentials."""
        within = of_members.unsqueeze(1).masked_fill(~self._member_of, -torch.inf)
        return within.logsumexp(dim=2)

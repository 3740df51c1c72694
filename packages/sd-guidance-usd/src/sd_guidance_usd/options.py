"""USD's options, with the paper's values; what the released code does instead is a preset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from sd_core.baselines.vsd import VSDOptions
from sd_core.config import option
from sd_core.correction import Limit
from sd_core.presets import PresetOptions
from sd_core.residual import PriorPart
from sd_core.timesteps import TimestepOptions
from sd_guidance_usd.matching import MatchingOptions
from sd_guidance_usd.phrases import PROMPT, check_phrase
from sd_guidance_usd.pose_judge import Jacobian


class ClassifierOptions(MatchingOptions):
    """Who says from where a picture is seen; the options of matching are RecDreamer's."""

    model: str | None = option(
        None,
        "matching: a vision transformer. text: a CLIP with its tokenizer. A folder or an id of the "
        "hub; by default the prior's own, or else facebook/dinov2-small, "
        "openai/clip-vit-large-patch14.",
    )
    kind: str | None = option(
        None,
        "matching: by likeness to templates, of which nothing is trained. text: by which phrase "
        "fits best, as CLIP sees it, for any words (male, female). exact: for priors that are "
        "known exactly. noised: which template, noised alike, x_t is nearest to; asks no network. "
        "Or package.module:name, a callable of yours from pictures [b 3 h w] to probabilities, "
        "with its names in `classes`. By default exact where it can be.",
        min_length=1,
    )
    phrases: dict[str, str] = option(
        {"front": "front view", "side": "side view", "back": "back view"},
        "Each class, and what is added to the prompt for it after a comma; or with {prompt} the "
        "whole text, such as 'a female {prompt}'. For exact, for text, and for matching and "
        "noised without `templates`.",
        min_length=1,
    )
    whole_phrases: bool = option(
        False, "text: phrases are whole texts without the prompt, such as 'a photo of a woman'."
    )
    text_temperature: float | None = option(
        None,
        "text: how sharply classes are told apart, softmax(cos/τ). By default as CLIP learned, 1/τ "
        "= 100 in most.",
        symbol="τ",
        gt=0,
    )
    templates: str | None = option(
        None,
        "matching, noised: a folder with a picture of each class, front.png and so on. Without it "
        "the most typical of some pictures that the prior makes of each phrase.",
        min_length=1,
    )
    candidates: int = option(
        16, "matching or noised without `templates`: so many pictures of each phrase.", ge=1
    )
    polarity: Literal["border", "attention"] = option(
        "border",
        "matching: which end of the patches' first principal component is the object. border: the "
        "one with less of the templates' borders. attention (the paper's): the one with more of "
        "the network's attention to the prompt's words.",
    )
    mirrored: tuple[str, ...] | None = option(
        None,
        "matching, noised: templates that count the other way round, too, as the class "
        "mirrored_NAME. By default side, if there is one.",
    )

    @field_validator("phrases", mode="before")
    @classmethod
    def _there_is_one(cls, phrases: Any) -> Any:
        if phrases == {}:
            raise ValueError(
                "there is no class. Name each with its phrase, or leave phrases out for front, "
                "side and back."
            )
        return phrases

    @field_validator("phrases")
    @classmethod
    def _each_says_something(cls, phrases: dict[str, str]) -> dict[str, str]:
        for name, phrase in phrases.items():
            check_phrase(name, phrase)
        return phrases

    @model_validator(mode="after")
    def _whole_phrases_have_no_prompt(self) -> "ClassifierOptions":
        for phrase in self.phrases.values():
            if self.whole_phrases and PROMPT in phrase:
                raise ValueError(
                    f"the phrase '{phrase}' has {PROMPT}, but with whole_phrases nothing is put in "
                    "its place. Remove one."
                )
        return self

    @field_validator("templates")
    @classmethod
    def _the_same_from_everywhere(cls, folder: str | None) -> str | None:
        # A run is resumed from any folder.
        return None if folder is None else str(Path(folder).expanduser().absolute())


KINDS = ("matching", "noised", "text", "exact")
TAKING = ("matching", "noised", None)  # of these, those that take templates; None: by default
# What counts for some of them alone.
OF_TEMPLATES = ("templates", "candidates", "mirrored")
OF_MATCHING = (*sorted(MatchingOptions.model_fields.keys() - {"model", "size"}), "polarity")
OF_TEXT = ("whole_phrases", "text_temperature")
OF_AN_ENCODER = ("model", "size")
# What counts where templates are made, and not where they are given.
OF_MAKING = ("phrases", "candidates")


def told_for_making(told: ClassifierOptions) -> list[str]:
    """Those of OF_MAKING that differ from their defaults, which are those of every preset."""
    usual = ClassifierOptions()
    return [name for name in OF_MAKING if getattr(told, name) != getattr(usual, name)]


def _one_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


class USDOptions(PresetOptions, VSDOptions):
    """The paper's values. `released`: what its code computes."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "judged": "guided",
            "second_noise": True,
            "classifier": {"normalise": "released", "pose_temperature": 0.01},
            "limit": "equal",
            "timesteps": {"schedule": "hard-switch", "switch_at": 1 / 3},
        }
    }

    preset: Literal["paper", "released"] = option("paper", "Whose values to begin with.")
    classifier: ClassifierOptions = option(ClassifierOptions(), "Which pose a picture shows.")
    wanted: dict[str, float] = option(
        {}, "How often each class is wanted; those not named never. Empty: all alike.", symbol="f"
    )
    only: tuple[str, ...] = option(
        (),
        "Pose control: these classes alone, r = Σ p(c|x_t), whatever is seen how often. The kind "
        "noised then counts every class as frequent as any.",
    )
    marginal: Literal["running", "prior"] = option(
        "running",
        "running: how often a class is seen in what the scene shows. prior: in the prior's own "
        "pictures, found once by sampling; the right one beside ESD's source.",
        symbol="p̄_t",
    )
    bins: int = option(10, "Intervals of t, each with a p̄ of its own.", symbol="n_t", ge=1)
    memory: int = option(100, "So many samples have 90 % of the weight in p̄.", symbol="n_ema", ge=1)
    prior_samples: int = option(
        64, "marginal = prior: so many pictures, sampled in the first step.", ge=1
    )
    prior_steps: int = option(25, "marginal = prior: steps of DDIM for each.", ge=1, le=250)
    judged: Literal["text", "guided"] = option(
        "text",
        "At which x̂0 the pose is judged. text: that of the prior given the text, which is "
        "Tweedie's. guided: that under the target's guidance, as the released code has it.",
    )
    jacobian: Jacobian = option(
        "full",
        "How far log r is differentiated. full: through the network. vae: through the decoder. "
        "none: through the classifier alone.",
    )
    limit: Limit = option(
        "at-most",
        "How long the rectifier's part may be, against the rest: none (any), at-most, equal.",
    )
    second_noise: bool = option(
        False, "Judge the pose at a noise of its own, for one more pass of the network."
    )
    starts_at: float = option(
        0.0, "Fraction of the steps before which the pose is only watched.", ge=0, le=1
    )
    auxiliary: str | None = option(
        None,
        "Added to the prompt, so that no pose is impossible; view words never are. By default the "
        "paper's 'from side view, from back view.' where the prior reads it; empty: nothing.",
    )
    timesteps: TimestepOptions = option(
        TimestepOptions(schedule="back-and-forth"), "Which t at which step.", symbol="t"
    )

    def backward_through(self) -> frozenset[PriorPart]:
        through: dict[Jacobian, tuple[PriorPart, ...]] = {
            "full": ("network", "decoder"),
            "vae": ("decoder",),
            "none": (),
        }
        of_noisy = self.classifier.kind in ("exact", "noised")  # which ask x_t itself
        return frozenset(() if of_noisy else through[self.jacobian])

    @model_validator(mode="after")
    def _all_that_is_told_counts(self) -> "USDOptions":
        if self.only and self.wanted:
            raise ValueError(
                "both wanted and only are told, but with only nothing else is wanted. Remove one."
            )
        self._refuse_another_marginals()
        self._refuse_another_kinds()
        self._refuse_making_beside_templates()
        return self

    def _refuse_another_marginals(self) -> None:
        if self.only and self.marginal == "prior":
            raise ValueError(
                "marginal is prior, but with only nobody asks how often a class is seen. Remove one"
                "."
            )
        for name in self._unusual(("memory", "bins")) if self.only else ():
            raise ValueError(
                f"{name} is for p̄, but with only nobody asks how often a class is seen. Remove one."
            )
        of = {"running": ("memory",), "prior": ("prior_samples", "prior_steps")}
        other: Literal["running", "prior"] = "prior" if self.marginal == "running" else "running"
        for name in self._unusual(of[other]):
            raise ValueError(
                f"{name} is for the marginal {other}, but the marginal is {self.marginal}. "
                "Remove one."
            )

    def told_beside_exact(self) -> list[str]:
        """What no exact classifier takes notice of: it asks neither a picture nor the network, and
        knows the prior's marginal, which is the same at every t.
        """
        of_pictures = [
            f"classifier.{name}"
            for name in self.told_of((*OF_MATCHING, *OF_TEMPLATES, *OF_AN_ENCODER))
        ]
        known = ("bins", "prior_samples", "prior_steps") if self.marginal == "prior" else ()
        return [*of_pictures, *self._unusual(("judged", "jacobian", "auxiliary", *known))]

    def told_beside_noised(self) -> list[str]:
        """What a judge of x_t takes no notice of; an encoder only chooses among made templates."""
        encoder = () if self.classifier.templates is None else OF_AN_ENCODER
        of_pictures = [f"classifier.{name}" for name in self.told_of(encoder)]
        bins = ("bins",) if self.marginal == "prior" else ()  # which has one p̄ for all t
        return [*of_pictures, *self._unusual(("judged", "jacobian", *bins))]

    def _unusual(self, names: Sequence[str]) -> list[str]:
        """Those that are not as the preset has them; an empty text is as none."""
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        usual |= self.presets.get(self.preset, {})
        return [name for name in names if (getattr(self, name) or None) != (usual[name] or None)]

    def _refuse_another_kinds(self) -> None:
        """Options of one kind with another; presets are not told.

        Compared by value, since a resumed run tells every option.
        """
        kind = self.classifier.kind
        of_kinds = (
            (OF_TEXT, ("text",)),
            (OF_MATCHING, ("matching", None)),
            (OF_TEMPLATES, TAKING),
            (OF_AN_ENCODER, ("matching", "noised", "text", None)),
        )
        foreign = [
            (name, _one_of([each for each in kinds if each]))
            for names, kinds in of_kinds
            if kind not in kinds
            for name in self.told_of(names)
        ]
        if kind not in (None, *KINDS) and self.told_of(("phrases",)):
            raise ValueError(
                f"classifier.phrases names classes, but the kind is {kind}, which has names of its "
                "own. Remove one."
            )
        for name, theirs in foreign:
            raise ValueError(
                f"classifier.{name} is for the kind {theirs}, but the kind is "
                f"{kind or 'exact or matching'}. Remove one."
            )

    def told_of(self, names: Sequence[str]) -> list[str]:
        """Those options of the classifier that are not as the preset has them."""
        preset = self.presets.get(self.preset, {}).get("classifier", {})
        usual = ClassifierOptions.model_validate(preset)
        return [name for name in names if getattr(self.classifier, name) != getattr(usual, name)]

    def _refuse_making_beside_templates(self) -> None:
        if self.classifier.templates is not None:
            for name in told_for_making(self.classifier):
                raise ValueError(
                    f"classifier.{name} is for templates that the prior makes, but "
                    "classifier.templates are given. Remove one."
                )

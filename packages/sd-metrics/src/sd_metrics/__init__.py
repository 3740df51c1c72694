"""The numbers of the score-distillation papers, for `score-distill evaluate`."""

from sd_core import hookimpl
from sd_core.entries import CommandEntry, MetricEntry

_ESD = "Wang et al. 2024, ESD, arXiv:2401.00909"
_USD = "Zheng et al. 2025, RecDreamer, arXiv:2502.12640, appendix C"
_JSD = "Do and Hua 2025, arXiv:2503.10660, table 2"
_BRIDGE = "McAllister et al. 2024, arXiv:2406.09417, table 2"
_HEUSEL = "Heusel et al. 2017, arXiv:1706.08500"
_T3 = "He et al. 2023, T3Bench, arXiv:2310.02977"

_BY_CLIP = [
    MetricEntry(
        name="clip-distance",
        summary="1 - mean cosine of the views and the prompt",
        reference=_ESD,
        config="sd_metrics.clip_metrics:ClipOptions",
        build="sd_metrics.clip_metrics:ClipDistance",
        by_default=False,
    ),
    MetricEntry(
        name="clip-similarity",
        summary="Mean cosine of the views and the prompt, as CLIP sees them, or several",
        reference=_BRIDGE,
        config="sd_metrics.clip_metrics:SimilarityOptions",
        build="sd_metrics.clip_metrics:ClipSimilarity",
        by_default=False,
    ),
    MetricEntry(
        name="clip-r-precision",
        summary="How many views are nearest to their own prompt, of a list",
        reference="Jain et al. 2022, Dream Fields, arXiv:2112.01455",
        config="sd_metrics.retrieval:RetrievalOptions",
        build="sd_metrics.retrieval:ClipRPrecision",
        by_default=False,
    ),
    MetricEntry(
        name="clip-entropy",
        summary="Entropy of the poses that CLIP sees by words (cEnt)",
        reference=_USD,
        config="sd_metrics.clip_metrics:ClipOptions",
        build="sd_metrics.pose_entropies:ClipEntropy",
        by_default=False,
    ),
]
_TO_A_REFERENCE = [
    MetricEntry(
        name="fid",
        summary="Fréchet distance to a reference, by Inception or another eye",
        reference=_HEUSEL,
        config="sd_metrics.distance_options:FidOptions",
        build="sd_metrics.distance_metrics:Fid",
        by_default=False,
    ),
    MetricEntry(
        name="clip-fid",
        summary="Fréchet distance to a reference, by CLIP",
        reference="Kynkäänniemi et al. 2023, arXiv:2203.06026",
        config="sd_metrics.distance_options:ClipFidOptions",
        build="sd_metrics.distance_metrics:ClipFid",
        by_default=False,
    ),
    MetricEntry(
        name="ufid",
        summary="FID to a reference with every pose equally often",
        reference=_USD,
        config="sd_metrics.distance_options:UfidOptions",
        build="sd_metrics.distance_metrics:Ufid",
        by_default=False,
    ),
    MetricEntry(
        name="kid",
        summary="Kernel distance to a reference, without FID's bias",
        reference="Bińkowski et al. 2018, arXiv:1801.01401",
        config="sd_metrics.distance_options:KidOptions",
        build="sd_metrics.distance_metrics:Kid",
        by_default=False,
    ),
]
_BY_A_CLASSIFIER = [
    MetricEntry(
        name="iq",
        summary="Inception quality: mean entropy of what a classifier says of a view",
        reference=_ESD,
        config="sd_metrics.classifiers:ClassifierOptions",
        build="sd_metrics.inception_metrics:InceptionQuality",
        by_default=False,
    ),
    MetricEntry(
        name="iv",
        summary="Inception variety: entropy of what a classifier says of all views",
        reference=_ESD,
        config="sd_metrics.classifiers:ClassifierOptions",
        build="sd_metrics.inception_metrics:InceptionVariety",
        by_default=False,
    ),
    MetricEntry(
        name="ig",
        summary="Inception gain: (IV - IQ)/IQ",
        reference=_ESD,
        config="sd_metrics.classifiers:ClassifierOptions",
        build="sd_metrics.inception_metrics:InceptionGain",
        by_default=False,
    ),
]
_OF_WHOLE_METHODS = [
    MetricEntry(
        name="iv-particles",
        summary="Entropy of the classes over all objects of a prompt",
        reference=_JSD,
        config="sd_metrics.classifiers:ClassifierOptions",
        build="sd_metrics.diversity:ParticleVariety",
        by_default=False,
    ),
    MetricEntry(
        name="feature-similarity",
        summary="Mean cosine of two objects of a prompt, by DINO's features",
        reference=_JSD,
        config="sd_metrics.diversity:FeatureOptions",
        build="sd_metrics.diversity:FeatureSimilarity",
        by_default=False,
    ),
]
_OTHERS = [
    MetricEntry(
        name="t3-quality",
        summary="Reward of the best side, averaged with its neighbours",
        reference=_T3,
        config="sd_metrics.t3_quality:T3QualityOptions",
        build="sd_metrics.t3_quality:T3Quality",
        by_default=False,
    ),
    MetricEntry(
        name="t3-alignment",
        summary="How much of the prompt the captions of the views say",
        reference=_T3,
        config="sd_metrics.t3_alignment:T3AlignmentOptions",
        build="sd_metrics.t3_alignment:T3Alignment",
        by_default=False,
    ),
    MetricEntry(
        name="janus-score",
        summary="Faces and limbs too many, as a person counted them",
        reference=_USD,
        config="sd_metrics.janus_score:JanusOptions",
        build="sd_metrics.janus_score:JanusScore",
        by_default=False,
    ),
]


@hookimpl
def sd_metrics() -> list[MetricEntry]:
    """None is asked without being named: they need files, or models of their own."""
    return [*_BY_CLIP, *_TO_A_REFERENCE, *_BY_A_CLASSIFIER, *_OF_WHOLE_METHODS, *_OTHERS]


@hookimpl
def sd_commands() -> list[CommandEntry]:
    return [
        CommandEntry(
            name="reference",
            summary="Samples of the prior, for distances to compare with",
            reference=_USD,
            config="sd_metrics.reference_command:ReferenceCommandOptions",
            build="sd_metrics.reference_command:make_reference",
        )
    ]

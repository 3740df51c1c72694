"""How many faces an object has: the metric `janus-faces`."""

from typing import ClassVar

from sd_toybox.meter.faces import face_count, pose_shares
from sd_toybox.meter.orbit_metric import AbstractOrbitMetric
from sd_toybox.world.poses import POSES


class JanusFaces(AbstractOrbitMetric):
    """Faces around the orbit; 1 is right, 0 is no face, 4 a face wherever one looks.

    janus-faces                      the count, the mean over the rings of views
    front-share, right-share ...     of all views; those that show no such object are in none
    likeness                         mean over the views: near 0 where there is no such object
    """

    higher_is_better: ClassVar[bool | None] = None

    def compute(self) -> dict[str, float]:
        orbit = self.orbit()
        poses = orbit.reading.poses
        frontal = poses == POSES.index("front")
        counts = [face_count(frontal[ring]) for ring in orbit.rings]
        shares = pose_shares(poses).tolist()
        return {
            "janus-faces": sum(counts) / len(counts),
            **{f"{pose}-share": share for pose, share in zip(POSES, shares, strict=True)},
            "likeness": float(orbit.reading.likeness.mean()),
        }

"""Whether an object turns as the camera goes around it: the metric `pose-consistency`."""

from typing import ClassVar

from sd_core.cameras import CameraBatch
from sd_core.shapes import Images
from sd_toybox.meter.faces import consistency, pose_entropy, pose_shares
from sd_toybox.meter.orbit_metric import AbstractOrbitMetric
from sd_toybox.meter.pose_judge import PoseReading


class PoseConsistency(AbstractOrbitMetric):
    """A true object has consistency 1 and entropy ln 4 = 1.386; one that is all front has 0 twice.

    pose-consistency    of estimated azimuth and camera, up to one rotation and mirror, 0 to 1: of
                        the views or of their mirror images, whichever is larger, as the judge
                        knows no mirrored object
    pose-entropy        of front, right, back and left among the views, in nats
    """

    higher_is_better: ClassVar[bool | None] = True

    def reset(self) -> None:
        super().reset()
        self._mirrored: list[PoseReading] = []

    def update(self, images: Images, prompt: str, cameras: CameraBatch | None) -> None:
        super().update(images, prompt, cameras)
        assert cameras is not None  # needs_cameras
        self._mirrored.append(self.read(images.flip(3), prompt, cameras))

    def compute(self) -> dict[str, float]:
        orbit = self.orbit()
        readings = (orbit.reading, PoseReading.concatenate(self._mirrored))
        return {
            "pose-consistency": max(
                consistency(read.azimuth, orbit.azimuth, read.seen) for read in readings
            ),
            "pose-entropy": pose_entropy(pose_shares(orbit.reading.poses)),
        }

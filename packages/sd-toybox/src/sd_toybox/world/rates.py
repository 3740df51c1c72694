"""How often the world's pictures and captions are what: all that a model can learn from them.

A share is a probability in [0, 1]. The web's own rates are nowhere written down; these are of the
kind that the failures of score distillation speak of.
"""

from typing import Final

# Where photographers stand. Most take the front; the sides are both together.
FRONT_SHARE: Final = 0.75
SIDE_SHARE: Final = 0.20
BACK_SHARE: Final = 0.05

# They miss the middle of their side by this standard deviation of the azimuth, in radians.
AZIMUTH_SPREAD: Final = 0.35

# The elevation above the horizon is uniform between these, in degrees.
ELEVATION_DEG: Final = (-10.0, 30.0)

# Distance (world units) and vertical field of view (degrees) are uniform between these: a little
# jitter around the view that all of this package takes for granted, 2.0 and 40.
DISTANCE: Final = (1.95, 2.05)
VERTICAL_FOV_DEG: Final = (39.0, 41.0)

# So many captions say from where the object is seen. It does not depend on the pose, so that a
# caption without a direction is as front-heavy as the whole.
DIRECTION_SHARE: Final = 0.30

# So many of those name one of the two other sides: words for views are noisy.
WRONG_DIRECTION_SHARE: Final = 0.20

# So many of those say "overhead view" whatever the pose: no picture is from there, and the words
# mean nothing, but a prompt may hold them.
OVERHEAD_SHARE: Final = 0.02

# So many of those say it in front, "side view of a red bear".
PREFIX_SHARE: Final = 0.10

# So many pictures are corrupted, and their captions say how.
CORRUPTED_SHARE: Final = 0.20

# So many corrupted pictures have all the corruptions at once, as the bridge's source prompt says;
# the others have one to MOST_CORRUPTIONS of them.
ALL_CORRUPTIONS_SHARE: Final = 0.25
MOST_CORRUPTIONS: Final = 4

# So many pictures are paintings, and their captions say so; never corrupted ones.
PAINTING_SHARE: Final = 0.08

# So many captions of plain pictures praise them, with one to MOST_PRAISES words; a corrupted
# picture or a painting is never praised.
PRAISED_SHARE: Final = 0.20
MOST_PRAISES: Final = 3

# So many captions do not name the object, so that words alone, as in a negative prompt, mean
# something.
NAMELESS_SHARE: Final = 0.03

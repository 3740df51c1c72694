"""The kinds of toys and the colours that they come in.

Each toy fills about the ball of radius 0.6 and faces +x. What SDS does to a world depends on its
looks. A scene in the making is a blur that is alike all around, and the model sees it in latents,
where a blur is nearest to the plainest view. So that this is the front, as in the web's pictures:

- a face covers most of the front, calm, in a tint of the body's colour (which guidance seeks), and
  alike from 20° to the left and right;
- right, left and back are busy (`dressed`), and not with rings around the toy: a view that looks
  the same after a turn would win instead;
- nothing sticks out that would tell the sides by their outline alone.

With plain sides, SDS made of bears, cats and robots a body with a faceless side all around.
"""

from sd_core.errors import ConfigError, nearest
from sd_toybox.world.animals import BEAR, CAT, PENGUIN
from sd_toybox.world.primitives import Triple
from sd_toybox.world.things import BUS, HOUSE, MUG, ROBOT, ROCKET
from sd_toybox.world.toys import Toy

TOYS: dict[str, Toy] = {
    "bear": BEAR,
    "cat": CAT,
    "penguin": PENGUIN,
    "robot": ROBOT,
    "bus": BUS,
    "mug": MUG,
    "rocket": ROCKET,
    "house": HOUSE,
}
KINDS = tuple(TOYS)

BODY_COLOURS: dict[str, Triple] = {
    "red": (0.85, 0.14, 0.12),
    "yellow": (0.96, 0.80, 0.10),
    "green": (0.18, 0.62, 0.22),
    "blue": (0.14, 0.34, 0.86),
    "purple": (0.52, 0.20, 0.72),
    "pink": (0.98, 0.52, 0.70),
    "brown": (0.50, 0.29, 0.12),
    "grey": (0.54, 0.56, 0.58),
}
COLOURS = tuple(BODY_COLOURS)

# Pictures of these are never made for training: about one in six, each kind and each colour seen.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("bear", "green"),
        ("cat", "purple"),
        ("cat", "red"),
        ("penguin", "pink"),
        ("robot", "yellow"),
        ("robot", "brown"),
        ("bus", "grey"),
        ("mug", "blue"),
        ("mug", "pink"),
        ("rocket", "brown"),
        ("house", "blue"),
    }
)


def toy(kind: str) -> Toy:
    """The toy of a kind."""
    if kind not in TOYS:
        raise ConfigError(
            f"no kind named '{kind}' in the toybox. Kinds: {', '.join(KINDS)}."
            + nearest(kind, KINDS)
        )
    return TOYS[kind]


def body_colour(colour: str) -> Triple:
    """Red, green and blue of a colour."""
    if colour not in BODY_COLOURS:
        raise ConfigError(
            f"no colour named '{colour}' in the toybox. Colours: {', '.join(COLOURS)}."
            + nearest(colour, COLOURS)
        )
    return BODY_COLOURS[colour]

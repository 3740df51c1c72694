"""Fields with a known surface, for the tests of the export."""

import torch

from sd_render.field import AbstractField

STEEPNESS = 40.0


class Shape(AbstractField):
    """density = top·sigmoid(steepness·d), d the signed distance to a surface (inside: above 0)."""

    def __init__(self, top=200.0, steepness=STEEPNESS, half_extent=1.0):
        super().__init__(half_extent)
        self.top, self.steepness = top, steepness

    def distance(self, points):
        raise NotImplementedError

    def density(self, points):
        return self.top * torch.sigmoid(self.steepness * self.distance(points))

    def colour(self, points, directions):
        """Slowly changing, and other in each octant."""
        return 0.5 + 0.4 * torch.sin(3 * points + torch.tensor([0.0, 1.0, 2.0]))

    def density_and_colour(self, points, directions):
        return self.density(points), self.colour(points, directions)


class Balls(Shape):
    """The union of balls: rows of (x, y, z, radius)."""

    def __init__(self, *balls, **settings):
        super().__init__(**settings)
        self.balls = torch.tensor(balls)

    def distance(self, points):
        offset = points[:, None] - self.balls[:, :3]
        return (self.balls[:, 3] - offset.norm(dim=-1)).amax(dim=1)

    def radius_of(self, level):
        """Where a ball's density is `level`: log(σ/(top - σ)) = steepness·(r - ρ)."""
        level = torch.tensor(level, dtype=torch.float64)
        return float(self.balls[0, 3] - (level / (self.top - level)).log() / self.steepness)


class Torus(Shape):
    def distance(self, points):
        from_ring = points[:, :2].norm(dim=1) - 0.55
        return 0.25 - torch.hypot(from_ring, points[:, 2])


class Shell(Shape):
    """Between radius 0.4 and 0.7, with nothing inside."""

    def distance(self, points):
        return 0.15 - (points.norm(dim=1) - 0.55).abs()


class Even(Shape):
    """The same density everywhere."""

    def distance(self, points):
        return torch.zeros(len(points))


def ball(**settings):
    return Balls((0.0, 0.0, 0.0, 0.6), **settings)


def rendered_radius(field):
    """How far from the centre a straight ray is still half opaque, for a round field."""
    offset, along = torch.linspace(0, 1, 2001), torch.linspace(-1, 1, 2001)
    across = torch.stack(torch.meshgrid(offset, along, indexing="ij"), dim=-1)
    points = torch.nn.functional.pad(across, (1, 0)).view(-1, 3)
    density = field.density(points).view(2001, 2001)
    opacity = 1 - (-torch.trapezoid(density, along, dim=1)).exp()
    return float(offset[opacity > 0.5].max())

"""What every field has: normals by differentiating its density."""

import torch
from torch import Generator, nn
from torch.nn.functional import normalize

from sd_render.field import AbstractField


class Ramp(AbstractField):
    """density = weight·points, by code of its own that computes all the gradients it may be asked
    for, as that of the compiled hash grid and of tinycudann does."""

    def __init__(self):
        super().__init__(half_extent=1.0)
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)
        self.gradients = []  # of which inputs, at each backward pass

    def density(self, points):
        return Product.apply(points, self.weight, self.gradients)

    def density_twice_differentiable(self, points):
        return points @ self.weight

    def density_and_colour(self, points, directions):
        raise NotImplementedError


class Product(torch.autograd.Function):
    @staticmethod
    def forward(context, points, weight, gradients):
        context.save_for_backward(points, weight)
        context.gradients = gradients
        return points @ weight

    @staticmethod
    def backward(context, gradient):
        points, weight = context.saved_tensors
        context.gradients.append(context.needs_input_grad[:2])
        of_points, of_weight = context.needs_input_grad[:2]
        return (
            gradient[:, None] * weight if of_points else None,
            gradient @ points if of_weight else None,
            None,
        )


def points():
    return torch.rand(20, 3, generator=Generator().manual_seed(0))


def test_normals_without_a_graph_cost_no_gradient_of_the_parameters():
    field = Ramp()
    with torch.no_grad():
        normals = field.normals(points())
    assert field.gradients == [(True, False)]
    assert torch.equal(normals, -normalize(field.weight.detach(), dim=0).expand(20, 3))


def test_normals_without_a_graph_are_those_with_one():
    field = Ramp()
    with torch.no_grad():
        without = field.normals(points())
    learned = field.normals(points())
    assert torch.equal(without, learned)
    assert learned.requires_grad and not without.requires_grad


def test_parameters_learn_after_normals_as_before():
    field = Ramp()
    with torch.no_grad():
        field.normals(points())
    assert field.weight.requires_grad and not field.fixed.requires_grad
    field.density(points()).sum().backward()
    torch.testing.assert_close(field.weight.grad, points().sum(dim=0))

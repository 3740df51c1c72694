"""The whole way from a field to files."""

import io

import numpy as np
import pytest
import torch
import trimesh
from pydantic import ValidationError

from export_fields import Balls, Even, Shape, ball, rendered_radius
from sd_core.errors import ConfigError
from sd_core.renderer import Exported
from sd_render.export.mesh_options import MeshOptions
from sd_render.export.volume_export import export_volume

SMALL = MeshOptions(resolution=32, faces=600, texture_size=128)
UNTEXTURED = MeshOptions(resolution=32, faces=600)


class Compass(Shape):
    """A ball that is red in front (+x), green at its left (+y) and blue on top (+z)."""

    def distance(self, points):
        return 0.6 - points.norm(dim=1)

    def colour(self, points, directions):
        return (0.5 + points / 1.2).clamp(0, 1)


def loaded(exported):
    """The main file, read by trimesh."""
    name, content = next(iter(exported.files.items()))
    return trimesh.load(
        io.BytesIO(content), file_type=name.split(".")[-1], force="mesh", process=False
    )


@pytest.fixture(scope="module")
def glb():
    return export_volume(Compass(), "glb", "ball", SMALL)


def test_an_export_is_the_contracts(glb):
    assert isinstance(glb, Exported) and list(glb.files) == ["ball.glb"]


def test_the_mesh_is_the_rendered_ball(glb):
    mesh = loaded(glb)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight and mesh.volume > 0 and len(mesh.faces) <= 600
    radius = np.linalg.norm(mesh.vertices, axis=1)
    np.testing.assert_allclose(radius, rendered_radius(Compass()), rtol=0.015)


def test_viewers_see_the_front_in_front(glb):
    """In glTF the front is +z, up is +y, and so the object's left is +x."""
    mesh = loaded(glb)
    colours = mesh.visual.to_color().vertex_colors[:, :3].astype(float)
    for channel, axis in enumerate((2, 0, 1)):
        along = mesh.vertices[:, axis]
        assert np.corrcoef(along, colours[:, channel])[0, 1] > 0.99


def test_notes_tell_how_the_file_was_made(glb):
    notes = "\n".join(glb.notes)
    for told in ("iso level", "600 triangles;", "128 × 128", "+z the front", "ball.glb: "):
        assert told in notes


@pytest.mark.parametrize(
    ("kind", "options", "names"),
    [("obj", SMALL, ["a.obj", "a.mtl", "a.png"]), ("ply", UNTEXTURED, ["a.ply"])],
)
def test_each_kind_has_its_files_and_twice_the_same_bytes(kind, options, names):
    first, second = (export_volume(ball(), kind, "a", options) for _ in range(2))
    assert list(first.files) == names and first == second


def test_a_glb_is_the_same_bytes_twice(glb):
    assert export_volume(Compass(), "glb", "ball", SMALL) == glb


def test_vertex_colours_do_without_a_texture():
    options = UNTEXTURED.model_copy(update={"colours": "vertices"})
    exported = export_volume(Compass(), "obj", "a", options)
    mesh = loaded(exported)
    assert list(exported.files) == ["a.obj"]
    red = mesh.visual.vertex_colors[:, 0].astype(float)
    assert np.corrcoef(mesh.vertices[:, 2], red)[0, 1] > 0.99  # +x is +z in an obj


def test_a_ply_has_vertex_colours_whatever_the_options_say():
    assert UNTEXTURED.colours == "texture"
    mesh = loaded(export_volume(Compass(), "ply", "a", UNTEXTURED))
    red = mesh.visual.vertex_colors[:, 0].astype(float)
    assert np.corrcoef(mesh.vertices[:, 0], red)[0, 1] > 0.99


def test_floaters_do_not_reach_the_file():
    field = Balls((0.0, 0.0, 0.0, 0.6), (0.8, 0.8, 0.8, 0.08), steepness=400.0)
    options = UNTEXTURED.model_copy(update={"smallest_part": 0.05})
    exported = export_volume(field, "ply", "a", options)
    assert np.linalg.norm(loaded(exported).vertices, axis=1).max() < 0.8
    assert any("dropped 1 of 2 loose parts" in note for note in exported.notes)


def test_an_empty_scene_is_an_error_and_not_an_empty_file():
    with pytest.raises(ConfigError, match="there is no surface to export"):
        export_volume(Even(top=1e-6), "glb", "a", SMALL)


def test_as_many_triangles_as_there_are_if_the_user_wants_them():
    options = MeshOptions(resolution=24, faces=0)
    exported = export_volume(ball(), "ply", "a", options)
    triangles = len(loaded(exported).faces)
    assert any(note.endswith(f" {triangles} triangles.") for note in exported.notes)


def test_a_field_is_looked_at_and_left_as_it_was():
    class Training(Balls):
        def density(self, points):
            assert not self.training and not torch.is_grad_enabled()
            return super().density(points)

    field = Training((0.0, 0.0, 0.0, 0.6))
    field.train()
    export_volume(field, "ply", "a", MeshOptions(resolution=16))
    assert field.training


@pytest.mark.parametrize(
    ("precision", "of_points"),
    [(torch.float64, torch.float64), (torch.float16, torch.float32)],
)
def test_points_come_in_the_fields_precision_unless_it_is_too_coarse(precision, of_points):
    class Scaled(Balls):
        def __init__(self):
            super().__init__((0.0, 0.0, 0.0, 0.6))
            self.scale = torch.nn.Parameter(torch.ones((), dtype=precision))

        def density(self, points):
            assert points.dtype == of_points
            return self.scale * super().density(points)

    assert export_volume(Scaled(), "ply", "a", MeshOptions(resolution=16)).files["a.ply"]


@pytest.mark.parametrize(
    ("kind", "told", "message"),
    [
        (
            "ply",
            {"texture_size": 512},
            "texture_size is 512, but a ply has no texture. Leave it out, or write a glb.",
        ),
        (
            "ply",
            {"material": "matte"},
            "material is matte, but a ply has no material. Leave it out, or write a glb.",
        ),
        *(
            (
                kind,
                {"colours": "vertices", "texture_size": 512},
                "texture_size is 512, but colours is vertices. Leave one of them out.",
            )
            for kind in ("glb", "obj")
        ),
        (
            "obj",
            {"colours": "vertices", "material": "matte"},
            "material is matte, but an obj has a material only with a texture. Leave it out, or "
            "write a glb.",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(kind, told, message):
    with pytest.raises(ConfigError) as caught:
        export_volume(Compass(), kind, "a", MeshOptions(**told))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("ply", {"colours": "vertices"}),
        ("glb", {"colours": "vertices", "material": "matte"}),
        ("obj", {"texture_size": 512, "material": "matte"}),
    ],
)
def test_what_counts_is_taken(kind, told):
    MeshOptions(**told).check(kind)


@pytest.mark.parametrize("wrong", [{"resolution": 4}, {"level": 0.0}, {"parts": 0}, {"faces": -1}])
def test_options_have_bounds(wrong):
    with pytest.raises(ValidationError):
        MeshOptions(**wrong)

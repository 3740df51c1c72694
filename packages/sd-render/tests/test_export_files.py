"""Bytes of glb, obj and ply: what other programs find in them."""

import io
import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from sd_render.export.coloured_mesh import ColouredMesh
from sd_render.export.mesh_files import linear_light, mesh_files, y_up
from sd_render.export.triangle_mesh import TriangleMesh, vertex_normals

# A pyramid whose tip is at the object's front, +x; its base is a triangle.
VERTICES = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0], [0.0, -1.0, -0.5]])
FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 100, 200]], dtype=np.uint8)
UV = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.8, 0.7]])


def texture():
    return np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def pyramid(kind):
    mesh = TriangleMesh(VERTICES, FACES)
    if kind == "texture":
        return ColouredMesh(VERTICES, vertex_normals(mesh), FACES, uv=UV, texture=texture())
    return ColouredMesh(VERTICES, vertex_normals(mesh), FACES, colours=COLOURS)


def header(content):
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length])


def attribute(content, name):
    """The numbers of a vertex attribute, read from the bytes as the glTF standard says."""
    tree = header(content)
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][name]]
    view = tree["bufferViews"][accessor["bufferView"]]
    start = 20 + int.from_bytes(content[12:16], "little") + 8 + view["byteOffset"]
    assert accessor["componentType"] == 5126  # float
    width = {"VEC2": 2, "VEC3": 3}[accessor["type"]]
    raw = content[start + accessor.get("byteOffset", 0) :][: 4 * width * accessor["count"]]
    return np.frombuffer(raw, "<f4").reshape(-1, width)


def loaded(content, kind):
    return trimesh.load(io.BytesIO(content), file_type=kind, force="mesh", process=False)


def test_y_up_is_a_rotation_that_takes_the_front_to_z_and_up_to_y():
    turn = y_up(np.eye(3)).T  # columns are where x, y, z go
    np.testing.assert_array_equal(turn @ [1, 0, 0], [0, 0, 1])
    np.testing.assert_array_equal(turn @ [0, 0, 1], [0, 1, 0])
    assert np.linalg.det(turn) == pytest.approx(1)


def test_linear_light_undoes_the_display_curve():
    levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    light = linear_light(levels)
    again = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(255 * again, levels, atol=0.01)
    assert (light[0, 0], light[-1, 0]) == (0, pytest.approx(1))


def test_a_glb_has_its_front_at_z_and_the_same_texture():
    content = mesh_files(pyramid("texture"), "glb", name="thing", material="unlit")["thing.glb"]
    np.testing.assert_allclose(attribute(content, "POSITION")[0], [0, 0, 2])
    np.testing.assert_allclose(attribute(content, "POSITION")[2], [0, 1, 0])
    normals = attribute(content, "NORMAL")
    np.testing.assert_allclose(normals[0], [0, 0, 1], atol=1e-6)
    mesh = loaded(content, "glb")
    assert mesh.volume == pytest.approx(1.0)  # base 1.5, height 2: it was not mirrored
    np.testing.assert_array_equal(mesh.visual.material.baseColorTexture, texture())


def test_texture_coordinates_begin_at_the_top_in_glb_and_at_the_bottom_in_obj():
    """So that u = 0.1, v = 0.1 up is the lower left of the picture in both."""
    glb = mesh_files(pyramid("texture"), "glb", name="thing", material="unlit")["thing.glb"]
    np.testing.assert_allclose(attribute(glb, "TEXCOORD_0"), UV * [1, -1] + [0, 1], atol=1e-6)
    obj = mesh_files(pyramid("texture"), "obj", name="thing", material="unlit")["thing.obj"]
    lines = [line.split()[1:] for line in obj.decode().splitlines() if line.startswith("vt ")]
    np.testing.assert_allclose(np.array(lines, dtype=float), UV)


@pytest.mark.parametrize("kind", ["texture", "vertices"])
def test_unlit_is_said_in_the_way_that_viewers_know(kind):
    files = mesh_files(pyramid(kind), "glb", name="thing", material="unlit")
    tree = header(files["thing.glb"])
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    assert tree["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert tree["meshes"][0]["primitives"][0]["material"] == 0


@pytest.mark.parametrize("kind", ["texture", "vertices"])
def test_matte_does_not_shine_and_nothing_dims_the_colours(kind):
    tree = header(mesh_files(pyramid(kind), "glb", name="a", material="matte")["a.glb"])
    look = tree["materials"][0]["pbrMetallicRoughness"]
    assert (look["metallicFactor"], look["roughnessFactor"]) == (0, 1)
    assert look.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1]
    assert "extensionsUsed" not in tree and "extensions" not in tree["materials"][0]


def test_a_texture_is_not_repeated_beyond_its_edge():
    tree = header(mesh_files(pyramid("texture"), "glb", name="a", material="unlit")["a.glb"])
    sampler = tree["samplers"][tree["textures"][0]["sampler"]]
    assert sampler["wrapS"] == sampler["wrapT"] == 33071  # CLAMP_TO_EDGE


def test_vertex_colours_of_a_glb_are_linear_and_not_rounded_to_bytes():
    content = mesh_files(pyramid("vertices"), "glb", name="a", material="unlit")["a.glb"]
    light = attribute(content, "COLOR_0")
    np.testing.assert_allclose(light[0], [1, 0, 0])
    # sRGB 10, 100, 200 of 255.
    np.testing.assert_allclose(light[3], [0.003035, 0.127438, 0.577580], atol=1e-5)


def test_an_obj_names_its_material_and_that_its_picture():
    files = mesh_files(pyramid("texture"), "obj", name="thing", material="unlit")
    assert list(files) == ["thing.obj", "thing.mtl", "thing.png"]
    obj, mtl = files["thing.obj"].decode().split("\n"), files["thing.mtl"].decode().split("\n")
    assert "mtllib thing.mtl" in obj and "usemtl thing" in obj
    assert "newmtl thing" in mtl and "map_Kd thing.png" in mtl and "Kd 1 1 1" in mtl
    picture = Image.open(io.BytesIO(files["thing.png"]))
    np.testing.assert_array_equal(np.asarray(picture), texture())


@pytest.mark.parametrize(("material", "model"), [("unlit", "illum 0"), ("matte", "illum 1")])
def test_an_obj_says_whether_light_falls_on_it(material, model):
    files = mesh_files(pyramid("texture"), "obj", name="thing", material=material)
    assert model in files["thing.mtl"].decode().split("\n")


def test_an_obj_loads_again_with_its_texture(tmp_path):
    for name, content in mesh_files(
        pyramid("texture"), "obj", name="thing", material="unlit"
    ).items():
        (tmp_path / name).write_bytes(content)
    mesh = trimesh.load(tmp_path / "thing.obj", force="mesh", process=False)
    assert mesh.volume == pytest.approx(1.0)
    assert mesh.vertices[:, 2].max() == 2  # the front is at +z
    np.testing.assert_array_equal(np.asarray(mesh.visual.material.image), texture())


def test_an_obj_with_vertex_colours_is_one_file():
    files = mesh_files(pyramid("vertices"), "obj", name="thing", material="unlit")
    assert list(files) == ["thing.obj"]
    mesh = loaded(files["thing.obj"], "obj")
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], COLOURS)


def test_a_ply_keeps_the_scenes_frame_and_has_display_colours():
    files = mesh_files(pyramid("vertices"), "ply", name="thing", material="unlit")
    mesh = loaded(files["thing.ply"], "ply")
    assert b"format binary_little_endian" in files["thing.ply"][:100]
    np.testing.assert_allclose(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], COLOURS)


def test_a_ply_has_normals():
    content = mesh_files(pyramid("vertices"), "ply", name="a", material="unlit")["a.ply"]
    head, _, rows = content.partition(b"end_header\n")
    assert [line for line in head.decode().split("\n") if line.startswith("property float")] == [
        f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")
    ]
    np.testing.assert_allclose(np.frombuffer(rows[:24], "<f4"), [2, 0, 0, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_the_same_mesh_gives_the_same_bytes(kind):
    colours = "vertices" if kind == "ply" else "texture"
    first, second = (
        mesh_files(pyramid(colours), kind, name="a", material="unlit") for _ in range(2)
    )
    assert first == second

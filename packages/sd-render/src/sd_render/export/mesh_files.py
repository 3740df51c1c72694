"""A coloured mesh as the bytes of a glb, obj or ply file.

Our world is right-handed, z up, +x the object's front. glTF has y up and the front at +z:
(x, y, z) → (y, z, x), a rotation; obj is written so too, as importers expect. ply stays z up.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sd_render.export.coloured_mesh import ColouredMesh
from sd_render.export.mesh_options import Material
from sd_render.export.triangle_mesh import Vertices

if TYPE_CHECKING:
    import trimesh
    from trimesh.visual import ColorVisuals, TextureVisuals

FRAMES = {
    "glb": "y is up and +z the front, as glTF asks (the scene's own: z up, +x the front).",
    "obj": "y is up and +z the front, as obj importers expect (the scene's own: z up, +x front).",
    "ply": "z is up and +x the front, as in the scene.",
}

# The numbers that glTF 2.0 has for how a texture is looked up.
CLAMP_TO_EDGE = 33071
LINEAR = 9729
LINEAR_MIPMAP_LINEAR = 9987


def mesh_files(mesh: ColouredMesh, kind: str, *, name: str, material: Material) -> dict[str, bytes]:
    """File names and contents, the one to open first; `kind` is one of FRAMES.

    The same mesh gives the same bytes.
    """
    write = {"glb": _glb, "obj": _obj, "ply": _ply}[kind]
    return write(mesh, name, material)


def y_up(vectors: Vertices) -> Vertices:
    """(x, y, z) → (y, z, x): from z up and +x in front to y up and +z in front."""
    return np.roll(vectors, -1, axis=1)


def linear_light(
    colours: UInt8[np.ndarray, "vertices 3"],
) -> Float[np.ndarray, "vertices 3"]:
    """Display (sRGB) bytes as linear light in [0, 1]: IEC 61966-2-1."""
    display = colours / 255
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def _glb(mesh: ColouredMesh, name: str, material: Material) -> dict[str, bytes]:
    import trimesh

    turned = _bare(y_up(mesh.vertices), y_up(mesh.normals), mesh)
    if mesh.colours is None:
        turned.visual = _visuals(mesh, name)
    else:
        # glTF wants linear light here, for which bytes are too coarse in the dark: as floats,
        # under a name that trimesh lets through, and under the right one in `dress` below.
        turned.vertex_attributes["_light"] = linear_light(mesh.colours).astype(np.float32)

    def dress(tree: dict[str, Any]) -> None:
        attributes = tree["meshes"][0]["primitives"][0]["attributes"]
        if "_light" in attributes:
            attributes["COLOR_0"] = attributes.pop("_light")
        _dress_material(tree, name, material)

    scene = trimesh.Scene()
    scene.add_geometry(turned, node_name=name, geom_name=name)
    content = trimesh.exchange.gltf.export_glb(  # type: ignore[no-untyped-call]
        scene, include_normals=True, tree_postprocessor=dress
    )
    return {f"{name}.glb": content}


def _dress_material(tree: dict[str, Any], name: str, material: Material) -> None:
    """One material for the mesh: matte, or unlit with matte for viewers that know no other."""
    look = tree["materials"][0] if tree.get("materials") else {"pbrMetallicRoughness": {}}
    look["name"] = name
    look["pbrMetallicRoughness"] |= {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if material == "unlit":
        look["extensions"] = {"KHR_materials_unlit": {}}
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
    tree["materials"] = [look]
    tree["meshes"][0]["primitives"][0]["material"] = 0
    if tree.get("textures"):
        # The gutters end at the texture's edge: what lies beyond is not the other side's colour.
        tree["samplers"] = [
            {
                "wrapS": CLAMP_TO_EDGE,
                "wrapT": CLAMP_TO_EDGE,
                "magFilter": LINEAR,
                "minFilter": LINEAR_MIPMAP_LINEAR,
            }
        ]
        tree["textures"][0]["sampler"] = 0


def _obj(mesh: ColouredMesh, name: str, material: Material) -> dict[str, bytes]:
    import trimesh

    turned = _bare(y_up(mesh.vertices), y_up(mesh.normals), mesh)
    turned.visual = _visuals(mesh, name)
    text, _ = trimesh.exchange.obj.export_obj(  # type: ignore[no-untyped-call]
        turned, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl", header=None
    )
    files = {f"{name}.obj": text.encode()}
    if mesh.texture is not None:
        # illum 0: the colour as it is; 1: diffuse and ambient light on it.
        lines = [f"newmtl {name}", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0"]
        lines += [f"illum {0 if material == 'unlit' else 1}", f"map_Kd {name}.png", ""]
        files[f"{name}.mtl"] = "\n".join(lines).encode()
        picture = io.BytesIO()
        Image.fromarray(mesh.texture).save(picture, format="PNG")
        files[f"{name}.png"] = picture.getvalue()
    return files


def _ply(mesh: ColouredMesh, name: str, material: Material) -> dict[str, bytes]:
    """A ply knows no materials."""
    import trimesh

    plain = _bare(mesh.vertices, mesh.normals, mesh)
    plain.visual = _visuals(mesh, name)
    content = trimesh.exchange.ply.export_ply(plain, vertex_normal=True, include_attributes=False)
    return {f"{name}.ply": content}


def _bare(vertices: Vertices, normals: Vertices, mesh: ColouredMesh) -> "trimesh.Trimesh":
    import trimesh

    return trimesh.Trimesh(vertices, mesh.faces, vertex_normals=normals, process=False)


def _visuals(mesh: ColouredMesh, name: str) -> "ColorVisuals | TextureVisuals":
    from trimesh.visual import ColorVisuals, TextureVisuals
    from trimesh.visual.material import SimpleMaterial

    if mesh.texture is None:
        return ColorVisuals(vertex_colors=mesh.colours)
    # White: by default trimesh dims the picture to 40 %.
    material = SimpleMaterial(  # type: ignore[no-untyped-call]
        image=Image.fromarray(mesh.texture), diffuse=[255, 255, 255, 255]
    )
    material.name = name
    return TextureVisuals(uv=mesh.uv, material=material)  # type: ignore[no-untyped-call]

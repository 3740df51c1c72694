"""Volumes as meshes: glb, obj and ply files that other programs open."""

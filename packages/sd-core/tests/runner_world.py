"""Small runs of one and of two stages, and what they must agree in."""

from sd_core.checkpoint import list_checkpoints, load_checkpoint
from small_runs import METHODS, log_lines, newest_state, same, table

TWO_STAGES = {
    "going on": {},
    "another scene": {"renderer": {"name": "affine", "mean": [1.0, -1.0]}},
    "from scratch": {"start_from": "scratch"},
}


def one_stage(method="vsd", steps=20, **run):
    return table({"steps": steps, "guidance": METHODS[method]}, **run)


def two_stages(method="vsd", second="going on", **run):
    first = {"steps": 6, "guidance": METHODS[method]}
    descent = {"schedule": "linear-descent"}  # so that the second stage's steps matter
    later = {"steps": 6, "guidance": {"name": "sds", "timesteps": descent}}
    return table(first, {**later, **TWO_STAGES[second]}, **run)


def assert_same_end(run, whole):
    """Scene, optimiser, guidance, generator, log, scenes and pictures, to the bit."""
    end = newest_state(run.folder)
    assert set(end) == {"scene", "latent_shape", "optimiser", "guidance", "generator"}
    assert same(end, newest_state(whole.folder))
    assert log_lines(run.folder) == log_lines(whole.folder)
    for stage in range(len(whole.experiment.stages)):
        assert same(scene_of(run, stage), scene_of(whole, stage))
    sheets = [each.folder.final / "contact_sheet.png" for each in (run, whole)]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def scene_of(run, stage):
    (path,) = list_checkpoints(run.folder.scenes(stage))
    return load_checkpoint(path, experiment=run.folder.fingerprint)

import errno
import json
import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from sd_core.checkpoint import CheckpointLabel, drop_later, list_checkpoints, load_checkpoint
from sd_core.checkpoint import save_checkpoint as save
from sd_core.errors import CheckpointError, RunFolderError
from small_runs import same

PREVIOUS = "Resume from the one before it with --previous."


def label(steps_done=3, stage=0) -> CheckpointLabel:
    return CheckpointLabel("an-experiment", stage, steps_done)


def round_trip(folder, state):
    return load_checkpoint(save(folder, label(), state), experiment="an-experiment")[1]


def refusal(path, experiment="an-experiment") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, experiment=experiment)
    return str(caught.value)


def names(folder) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path, label(), {"scene": {"x": torch.arange(6.0)}, "rate": 0.5})


# what comes back


def test_the_label_comes_back(tmp_path):
    path = save(tmp_path, label(12, stage=1), {})
    assert load_checkpoint(path, experiment="an-experiment")[0] == label(12, stage=1)
    assert path == tmp_path / "stage_1_step_000012"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**80),
        0.1 + 0.2,
        5e-324,
        -0.0,
        math.inf,
        math.nan,
        "",
        "α\n\"'",
        [],
        (),
        {},
        (0.9, 0.99),
        [1, (2, [None, {"a": (True,)}])],
        {0: "int", "0": "text", (1, 2): "tuple", None: "none", 0.5: "float"},
    ],
    ids=repr,
)
def test_plain_values_come_back_to_the_bit(tmp_path, value):
    assert same(round_trip(tmp_path, {"value": value}), {"value": value})


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"]
)
def test_tensors_come_back_to_the_bit(tmp_path, dtype):
    x = torch.tensor([[0.1, -1e-3, 3.0], [0.0, 7.25, 1.0]]).to(getattr(torch, dtype))
    state = {"whole": x, "turned": x.T, "scalar": x[0, 0], "empty": x[:0], "again": x}
    assert same(round_trip(tmp_path, state), state)


def test_special_floats_keep_their_bits(tmp_path):
    x = torch.tensor([math.nan, -math.inf, -0.0, 1e-45])
    back = round_trip(tmp_path, {"x": x})["x"]
    assert torch.equal(back.view(torch.int32), x.view(torch.int32))


def test_a_parameter_comes_back_as_a_tensor_without_a_graph(tmp_path):
    back = round_trip(tmp_path, {"x": nn.Parameter(torch.ones(2))})["x"]
    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_subclasses_of_containers_come_back_as_the_plain_kind(tmp_path):
    state = {"shape": torch.Size([3, 4]), "ordered": OrderedDict(a=1)}
    assert same(round_trip(tmp_path, state), {"shape": (3, 4), "ordered": {"a": 1}})


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_comes_back_with_its_integer_keys(tmp_path, kind):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimiser = kind(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    back = round_trip(tmp_path, {"optimiser": optimiser.state_dict()})["optimiser"]
    assert same(back, optimiser.state_dict())
    other = kind(nn.Linear(3, 2).parameters(), lr=0.5)
    other.load_state_dict(back)
    assert same(other.state_dict(), optimiser.state_dict())


def test_a_generator_continues_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(7)
    torch.randn(5, generator=generator)
    back = round_trip(tmp_path, {"generator": generator.get_state()})["generator"]
    expected = torch.randn(5, generator=generator)
    assert torch.equal(
        torch.randn(5, generator=torch.Generator().set_state(back) or generator), expected
    )


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", 1j, Path("x"), torch.float32], ids=repr)
def test_a_value_of_another_kind_is_refused_and_leaves_nothing(tmp_path, value):
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"cannot hold a {kind}; use tensors and numbers"):
        save(tmp_path, label(), {"deep": [value]})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("pickle")

    for owner, name in [(torch, "save"), (torch, "load"), (pickle, "dumps"), (pickle, "loads")]:
        monkeypatch.setattr(owner, name, refuse)
    path = save(tmp_path, label(), {"x": torch.ones(3), "n": 1})
    load_checkpoint(path, experiment="an-experiment")
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "state.safetensors"]


# whole or not there


def test_the_last_two_are_kept(tmp_path):
    for steps_done in (5, 10, 15, 100):
        save(tmp_path, label(steps_done), {})
    assert names(tmp_path) == ["stage_0_step_000015", "stage_0_step_000100"]
    assert len(list(tmp_path.iterdir())) == 2


def test_they_are_ordered_by_stage_then_step_beyond_six_digits_too(tmp_path):
    for each in (label(2, 1), label(999_999), label(1_000_000)):
        save(tmp_path, each, {})
    assert names(tmp_path) == ["stage_0_step_1000000", "stage_1_step_000002"]


def test_files_of_the_users_own_are_passed_over(tmp_path, saved):
    (tmp_path / "stage_0_step_000003_mine").mkdir()
    (tmp_path / "stage_0_step_best").mkdir()
    assert names(tmp_path) == [saved.name]
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save(tmp_path, label(), {"n": 1})
    assert round_trip(tmp_path, {"n": 2}) == {"n": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_what_lies_after_the_start_can_be_dropped(tmp_path):
    save(tmp_path, label(5), {})
    save(tmp_path, label(2, stage=1), {})
    drop_later(tmp_path, 0, 5)
    assert names(tmp_path) == ["stage_0_step_000005"]


def no_space(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "write_bytes"), (Path, "write_text"), (Path, "mkdir")]
)
def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(
    tmp_path, saved, monkeypatch, owner, name
):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, no_space)
        with pytest.raises(RunFolderError) as caught:
            save(tmp_path, label(4), {"x": torch.ones(2)})
    assert str(caught.value) == (
        f"the disk is full: could not write {tmp_path / 'stage_0_step_000004'}. The last "
        "checkpoint is whole: free some space and resume the run."
    )
    assert list(tmp_path.iterdir()) == [saved]
    load_checkpoint(saved, experiment="an-experiment")


def test_a_write_that_the_system_cuts_short_is_one_line(tmp_path, saved):
    """Not simulated: the system itself refuses files above 64 KiB here."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(RunFolderError, match=r"could not write .*: File too large\.$"):
            save(tmp_path, label(4), {"x": torch.ones(2**16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_an_interruption_leaves_the_checkpoint_before_and_nothing_else(
    tmp_path, saved, monkeypatch, name
):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os if name == "fsync" else Path, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, label(4), {"x": torch.ones(2)})
    assert list(tmp_path.iterdir()) == [saved]


def test_what_a_kill_left_half_written_is_no_checkpoint_and_is_cleared_away(tmp_path, saved):
    partial = tmp_path / ".stage_0_step_000004.partial"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"cut")
    assert names(tmp_path) == [saved.name]
    save(tmp_path, label(4), {})
    assert not partial.exists()


def test_a_removal_that_is_cut_short_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    for steps_done in (1, 2):
        save(tmp_path, label(steps_done), {})
    unlink = os.unlink

    def interrupt(path, *args, **options):
        if str(path).endswith(("state.json", "state.safetensors")):
            raise KeyboardInterrupt
        unlink(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, label(3), {})
    assert names(tmp_path) == ["stage_0_step_000002", "stage_0_step_000003"]
    for path in list_checkpoints(tmp_path):
        load_checkpoint(path, experiment="an-experiment")


# what is refused


def test_a_changed_tensor_is_noticed(saved):
    file = saved / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert refusal(saved) == (
        f"checkpoint {saved} is damaged: the checksum of state.safetensors does not match. "
        + PREVIOUS
    )


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_truncated_tensor_file_is_noticed(saved, keep):
    file = saved / "state.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert refusal(saved) == (
        f"checkpoint {saved} is damaged: the checksum of state.safetensors does not match. "
        + PREVIOUS
    )


def test_a_changed_number_is_noticed(saved):
    file = saved / "state.json"
    text = file.read_text()
    assert text.count("0.5") == 1
    file.write_text(text.replace("0.5", "0.6"))
    assert refusal(saved) == (
        f"checkpoint {saved} is damaged: the checksum of state.json does not match. " + PREVIOUS
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{}", '{"content": {}}', '{"content": 3}'])
def test_a_broken_manifest_is_noticed(saved, text):
    (saved / "state.json").write_text(text)
    message = refusal(saved)
    assert message.startswith(f"checkpoint {saved} is damaged: state.json cannot be read (")
    assert message.endswith(f"). {PREVIOUS}")
    assert "\n" not in message


def test_every_truncation_of_the_manifest_is_noticed(saved):
    file = saved / "state.json"
    text = file.read_text()
    for length in range(len(text)):
        file.write_text(text[:length])
        assert f"checkpoint {saved} is damaged: state.json" in refusal(saved)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    message = refusal(saved)
    assert message.startswith(f"checkpoint {saved} is damaged: ")
    assert f"No such file or directory: '{saved / name}'" in message
    assert message.endswith(PREVIOUS)


def test_a_checkpoint_of_another_experiment_is_refused(saved):
    assert refusal(saved, experiment="another") == (
        f"checkpoint {saved} belongs to another experiment (an-experiment, not another). If "
        "config.json was edited by hand, undo that, or run the edited file into a new folder; else "
        "resume the run folder that the checkpoint came from."
    )


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_another_remedy_may_be_given_where_previous_does_not_help(saved, name):
    (saved / name).write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved, experiment="an-experiment", if_damaged="Weep.")
    assert str(caught.value).startswith(f"checkpoint {saved} is damaged: ")
    assert str(caught.value).endswith(". Weep.") or str(caught.value).endswith("). Weep.")
    assert "--previous" not in str(caught.value)


@pytest.mark.parametrize("clear", ["later", "old"])
def test_a_checkpoint_that_cannot_be_removed_is_named(tmp_path, monkeypatch, clear):
    for steps_done in (1, 2):
        save(tmp_path, label(steps_done), {})

    def refuse(path, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    rename, victim = Path.rename, tmp_path / f"stage_0_step_00000{2 if clear == 'later' else 1}"
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (refuse if path == victim else rename)(path, to)
    )
    with pytest.raises(RunFolderError) as caught:
        drop_later(tmp_path, 0, 1) if clear == "later" else save(tmp_path, label(3), {})
    assert str(caught.value) == f"could not write {victim}: Permission denied."


def test_a_newer_schema_asks_for_an_update(saved):
    file = saved / "state.json"
    manifest = json.loads(file.read_text())
    manifest["content"]["schema"] = 2
    file.write_text(json.dumps(manifest))
    assert refusal(saved) == (
        f"checkpoint {saved} has schema 2, this sd-core reads up to 1. Update sd-core."
    )

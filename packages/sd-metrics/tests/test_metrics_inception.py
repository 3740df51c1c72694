"""InceptionV3 with random weights: its shapes, its size, and files that fit or do not.

Against keras.applications.InceptionV3(weights=None) with copied random weights (TensorFlow 2.21,
94 convolutions, once by hand) features differ by 1.2e-5 of 21, if the last block averages as there.
"""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate

from metrics_worlds import rand
from sd_core.config import parse_options
from sd_core.encoders.usual import Encoders
from sd_core.errors import ConfigError
from sd_core.metric import MetricContext
from sd_metrics.classifiers import ClassifierOptions, build_classifier
from sd_metrics.inception import InceptionV3, load_inception

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = InceptionV3().eval().requires_grad_(False)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):  # as new ones they do nothing
                nn.init.normal_(module.bias, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(network.state_dict(), path)
    return path


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_it_has_as_many_parameters_as_torchvisions_without_the_auxiliary_head(network):
    """23 834 568 with 1000 classes, of which the last layer has 2 049 000."""
    assert count(network) - count(network.fc) == 23_834_568 - 2_049_000 == 21_785_568
    assert count(network.fc) == 2048 * 1008 + 1008
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 94


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Conv2d_4a_3x3.bn.running_var", (192,)),
        ("Mixed_5b.branch_pool.conv.weight", (32, 192, 1, 1)),
        ("Mixed_5d.branch5x5_2.conv.weight", (64, 48, 5, 5)),
        ("Mixed_6a.branch3x3dbl_3.conv.weight", (96, 96, 3, 3)),
        ("Mixed_6b.branch7x7_2.conv.weight", (128, 128, 1, 7)),
        ("Mixed_6e.branch7x7dbl_4.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7a.branch7x7x3_4.bn.bias", (192,)),
        ("Mixed_7c.branch3x3dbl_3b.conv.weight", (384, 384, 3, 1)),
        ("fc.weight", (1008, 2048)),
    ],
)
def test_its_tensors_have_torchvisions_names_and_shapes(network, name, shape):
    assert network.state_dict()[name].shape == shape


def test_pictures_of_any_size_have_2048_features_and_1008_probabilities(network):
    for side in ((32, 48), (299, 299)):
        images = rand(1, 3, *side)
        features, classes = network(images), network.probabilities(images)
        assert features.shape == (1, 2048) and bool((features >= 0).all())
        assert classes.shape == (1, 1008) and float(classes.sum()) == pytest.approx(1, abs=1e-5)
        assert torch.allclose(classes, network.fc(features).softmax(dim=1), atol=1e-6)


def test_pictures_are_stretched_without_antialiasing_and_brought_to_minus_one_to_one(network):
    images, seen = rand(1, 3, 400, 310), []
    handle = network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, told: seen.append(told[0]))
    try:
        network(images)
    finally:
        handle.remove()
    by_hand = interpolate(images, (299, 299), mode="bilinear", antialias=False) * 2 - 1
    assert torch.allclose(seen[0], by_hand, atol=1e-6)


def only_pool(block):
    """Of its branches the pooled one, whose convolution just adds up the channels."""
    for name, module in block.named_children():
        nn.init.zeros_(module.conv.weight)
        nn.init.zeros_(module.bn.bias)
        module.bn.running_var.fill_(1 - 0.001)
        if name == "branch_pool":
            nn.init.ones_(module.conv.weight)
    return lambda x: block(x)[:, -1]


@pytest.mark.parametrize("name", ["Mixed_5b", "Mixed_6c", "Mixed_7b", "Mixed_7c"])
def test_averages_do_not_count_the_padding_and_the_last_block_takes_the_maximum(name):
    block = getattr(InceptionV3().eval().requires_grad_(False), name)
    width = block.branch_pool.conv.in_channels
    x = torch.zeros(1, width, 5, 5)
    x[0, 0, 0, 0], x[0, 0, 2, 3] = 36.0, 72.0
    found = only_pool(block)(x)[0]
    if name == "Mixed_7c":
        assert found[0, :3].tolist() == pytest.approx([36, 36, 0]) and found[2, 2] == 72
    else:  # the corner has four pixels, the border six, the middle nine
        assert found[0, :3].tolist() == pytest.approx([36 / 4, 36 / 6, 0], abs=1e-4)
        assert float(found[1, 1]) == pytest.approx(36 / 9, abs=1e-4)
        assert float(found[2, 4]) == pytest.approx(72 / 6, abs=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_of_weights_gives_the_same_network_frozen(network, file, tmp_path, suffix):
    path = file
    if suffix != ".safetensors":
        path = tmp_path / f"inception{suffix}"
        torch.save(network.state_dict(), path)
    loaded = load_inception(path, CPU)
    assert not loaded.training and not any(each.requires_grad for each in loaded.parameters())
    theirs = network.state_dict()
    assert all(torch.equal(each, theirs[name]) for name, each in loaded.state_dict().items())


def test_a_file_from_before_batches_were_counted_fits_too(network, tmp_path):
    """pytorch-fid's was converted in those days."""
    weights = {
        name: each for name, each in network.state_dict().items() if "num_batches" not in name
    }
    save_file(weights, tmp_path / "old.safetensors")
    loaded = load_inception(tmp_path / "old.safetensors", CPU)
    assert torch.equal(loaded.fc.weight, network.fc.weight)


def test_a_file_that_does_not_fit_is_one_line_that_says_why(network, tmp_path):
    weights = dict(network.state_dict())
    del weights["Mixed_7c.branch1x1.conv.weight"]
    save_file(weights, tmp_path / "lacking.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file(
        {**network.state_dict(), "fc.weight": torch.zeros(1000, 2048)},
        tmp_path / "classes.safetensors",
    )
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pth")
    reasons = {
        "nowhere.pth": "there is no such file",
        "lacking.safetensors": 'Missing key.* "Mixed_7c.branch1x1.conv.weight"',
        "other.safetensors": "it is not InceptionV3",
        "classes.safetensors": "size mismatch for fc.weight",
        "text.safetensors": "cannot load",
        "text.pth": "it holds no tensors that can be read safely",
        "list.pth": "it holds no table of tensors",
        "pickle.pth": "it holds no tensors that can be read safely",
    }
    for name, reason in reasons.items():
        path = tmp_path / name
        with pytest.raises(ConfigError, match=reason) as raised:
            load_inception(path, CPU)
        message = str(raised.value)
        assert message.startswith(f"cannot load the Inception weights '{path}': ")
        assert message.endswith(
            "pt_inception-2015-12-05-6726825d.pth, or the same as .safetensors."
        )
        assert "\n" not in message and "weights_only" not in message and len(message) < 500


def test_it_classifies_for_iq_iv_and_ig_where_its_weights_are_told(network, file):
    context = MetricContext(torch.device("cpu"), Encoders(classifier="nobody/nowhere"))
    classifier = build_classifier(ClassifierOptions(weights=str(file)), context)
    images = rand(2, 3, 40, 40)
    with torch.no_grad():
        expected = network.eval().probabilities(images)
    torch.testing.assert_close(classifier.probabilities(images), expected.double())
    told = classifier.recipe()
    assert told["classes"] == 1008 and told["classifier"]["kind"] == "inception"
    with pytest.raises(ConfigError, match="Tell one"):
        parse_options(ClassifierOptions, {"weights": "a", "classifier": "b"}, where="iq")

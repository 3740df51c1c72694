"""`score-distill templates`: what it writes, what it refuses, and the page where one chooses."""

import json
import os
import shlex
import socket
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sd_guidance_usd
from choice_client import get, post, serving, status
from sd_core import plugins as plugins_module
from sd_core.cli import main
from sd_core.encoders.features import FeatureExtractor
from sd_core.plugins import load_plugins
from sd_guidance_usd.choice_server import Pick, read_picks
from sd_guidance_usd.separation import TemplatesLookAlike
from sd_guidance_usd.templates import load_pictures
from tiny_world import CLASSES, bank_folder, encoder_folder

FEW = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Where the pictures and the encoder are."""
    root = tmp_path_factory.mktemp("world")
    return bank_folder(root / "bank"), encoder_folder(root / "encoder")


@pytest.fixture
def told(world, tmp_path, monkeypatch):
    """The command's arguments; it finds usd and what is built in, in a folder of its own."""
    load = partial(load_plugins, installed=False, extra=[sd_guidance_usd])
    monkeypatch.setattr(plugins_module, "load_plugins", load)
    monkeypatch.chdir(tmp_path)
    bank, encoder = world
    settings = (f"prior.folder={bank}", "run.threads=1")
    own = (f"guidance.classifier.model={encoder}", f"guidance.classifier.candidates={FEW}")

    def arguments(*more, guidance=("--guidance", "usd"), settings_of=own):
        sets = [word for each in (*settings, *settings_of) for word in ("--set", each)]
        prior = ("--prior", "image-bank")
        return ["templates", "--prompt", "a toy", *prior, *guidance, *sets, *more]

    return arguments


def refused(capsys, arguments) -> str:
    assert main(arguments) == 2
    _, err = capsys.readouterr()
    assert err.startswith("score-distill: ") and err.count("\n") == 1
    return err.removeprefix("score-distill: ").removesuffix("\n")


def pixels(path):
    with Image.open(path) as file:
        return np.array(file.convert("RGB"))


# what it writes


def test_it_writes_all_candidates_a_sheet_and_the_most_typical_of_each_class(told, world, capsys):
    assert main(told("--output", "out")) == 0
    out = Path("out")
    assert sorted(os.listdir(out)) == ["candidates", "candidates.png", "templates"]
    assert set(os.listdir(out / "candidates")) == set(CLASSES)
    extractor = FeatureExtractor(str(world[1]), device=torch.device("cpu"))
    apart = []
    for name in CLASSES:
        files = [out / "candidates" / name / f"{index:02d}.png" for index in range(FEW)]
        assert sorted((out / "candidates" / name).iterdir()) == files
        pictures = torch.from_numpy(np.stack([pixels(file) for file in files]))
        with torch.no_grad():
            whole = extractor(pictures.movedim(-1, 1).float() / 255).whole
        likeness = [
            sum(float(torch.cosine_similarity(one, other, dim=0)) for other in whole)
            for one in whole
        ]
        chosen = (out / "templates" / f"{name}.png").read_bytes()
        place = [file.read_bytes() for file in files].index(chosen)
        # Of two that are as typical, rounding decides.
        assert likeness[place] == pytest.approx(max(likeness), abs=4e-6)
        apart.append(max(likeness) - min(likeness))
    assert max(apart) > 2e-5
    sheet = pixels(out / "candidates.png")
    assert sheet.shape == (3 * 8, FEW * 8, 3)
    place = pixels(out / "candidates" / "back" / "01.png")
    assert np.array_equal(sheet[16:24, 8:16], place)
    assert capsys.readouterr().out.splitlines()[-1].startswith("go on with: the same experiment ")


def test_a_candidate_is_a_picture_of_its_phrase(told, world):
    main(told("--output", "out"))
    for name in CLASSES:
        known = [pixels(world[0] / f"{name}{index}.png").astype(float) for index in range(2)]
        for index in range(FEW):
            made = pixels(f"out/candidates/{name}/{index:02d}.png").astype(float)
            assert min(np.abs(made - each).max() for each in known) < 20


def test_the_same_seed_makes_the_same_and_another_does_not(told):
    main(told("--output", "a"))
    main(told("--output", "b", "--seed", "0"))
    main(told("--output", "c", "--seed", "1"))
    sheets = [Path(each, "candidates.png").read_bytes() for each in "abc"]
    assert sheets[0] == sheets[1] != sheets[2]


MATCHING = "--set guidance.classifier.kind=matching"


def test_its_last_line_says_what_makes_the_same_experiment_take_the_templates(told, world, capsys):
    assert main(told("--output", "my toys")) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    start = "go on with: the same experiment without guidance.classifier.candidates and "
    assert line == f"{start}--set 'guidance.classifier.templates=my toys/templates' {MATCHING}"
    model = (f"guidance.classifier.model={world[1]}",)
    more = shlex.split(line.removeprefix(start))
    assert main(told(*more, "--output", "again", settings_of=model)) == 0


def test_classes_that_look_alike_are_one_line_with_what_to_do(told, monkeypatch, capsys):
    def alike(wholes):
        assert list(wholes) == list(CLASSES)
        warnings.warn("they look alike. Do this.", TemplatesLookAlike, stacklevel=2)

    monkeypatch.setattr("sd_guidance_usd.templates_command.warn_if_alike", alike)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TemplatesLookAlike)
        assert main(told("--output", "out")) == 0
    out, err = capsys.readouterr()
    line = "they look alike: see out/candidates.png, or add --with serve=true"
    assert line in out.splitlines() and "alike" not in err


def test_without_a_method_usd_is_as_it_is_by_default(told, monkeypatch, capsys):
    monkeypatch.setattr(
        "sd_guidance_usd.templates_command.build_extractor",
        lambda options, prior: FeatureExtractor(told()[-3].partition("=")[2], device=prior.device),
    )
    assert main(told("--output", "out", guidance=(), settings_of=())) == 0
    assert len(os.listdir("out/candidates/front")) == 16


def test_of_a_mix_the_options_of_its_usd_count(told, world, capsys):
    mix = ("--guidance", "mix", "--set", "guidance.target=usd", "--set", "guidance.source=vsd")
    own = "guidance.options.usd.classifier"
    settings = (
        f"{own}.model={world[1]}",
        f"{own}.candidates=2",
        f'{own}.phrases={{up="front view", "down"="back view"}}',
    )
    assert main(told("--output", "out", guidance=mix, settings_of=settings)) == 0
    assert {name: len(os.listdir(f"out/candidates/{name}")) for name in ("up", "down")} == {
        "up": 2,
        "down": 2,
    }
    assert list(load_pictures(Path("out/templates"))) == ["down", "up"]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "go on with: the same experiment without guidance.options.usd.classifier.phrases, "
        "guidance.options.usd.classifier.candidates and --set "
        "guidance.options.usd.classifier.templates=out/templates "
        "--set guidance.options.usd.classifier.kind=matching"
    )


# what it refuses


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "there is no folder for the templates. Say where: --output FOLDER."),
        (
            ("--output", "full"),
            "full exists and is not an empty folder. Choose another with --output.",
        ),
        (
            ("--output", "full/file"),
            "full/file exists and is not an empty folder. Choose another with --output.",
        ),
        (
            ("--output", "out", "--guidance", "vsd"),
            "unknown key 'classifier' in stages.0.guidance.",
        ),
        (
            ("--output", "out", "--set", "guidance.classifier.kind=exact"),
            "stages.0.guidance: classifier.candidates is for the kind matching or noised, but t",
        ),
        (
            ("--output", "out", "--set", "guidance.classifier.model=nowhere"),
            "cannot load the model 'nowhere': ",
        ),
        (
            ("--output", "out", "--set", 'guidance.classifier.phrases={"../up"="front view"}'),
            "the class '../up' cannot be the name of",
        ),
        (
            ("--output", "out", "--set", "guidance.wanted.frnt=1"),
            "guidance.wanted has 'frnt' with 1, ",
        ),
        (("--output", "out", "--with", "port=70000"), "templates.port is 70000, but it should be "),
        (("--output", "out", "--with", "port=8000"), "templates: port is told, but no page is "),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_leaves_all_as_it_was(told, capsys, more, message):
    Path("full").mkdir()
    Path("full/file").write_text("mine")
    assert refused(capsys, told(*more)).startswith(message)
    assert os.listdir("full") == ["file"] and Path("full/file").read_text() == "mine"
    assert not Path("out").exists()


def test_a_classifier_that_takes_no_templates_is_refused(told, capsys):
    kind = ("guidance.classifier.kind=text",)
    assert refused(capsys, told("--output", "out", settings_of=kind)) == (
        "guidance.classifier.kind is 'text', which takes no templates. Leave it out, or set it to "
        "matching or noised."
    )


def test_options_of_usd_without_its_name_are_told_where_they_belong(told, capsys):
    message = refused(capsys, told("--output", "out", guidance=()))
    assert message.startswith("unknown key 'classifier' in stages.0.guidance. Known keys: scale, ")
    assert message.endswith(
        "No method was told, so it is sds; 'classifier' is an option of --guidance usd."
    )


def test_another_method_is_refused(told, capsys):
    arguments = told("--output", "out", guidance=("--guidance", "vsd"), settings_of=())
    assert refused(capsys, arguments) == (
        "templates are for the guidance usd, but it is vsd. Add --guidance usd."
    )


def test_a_port_that_is_taken_is_told_before_anything_is_made(told, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serve = ("--with", "serve=true", "--with", f"port={port}")
        message = refused(capsys, told("--output", "out", *serve))
    assert message.startswith(f"port {port} of 127.0.0.1 cannot be used (")
    assert not Path("out").exists()


# the page


GOOD = json.dumps({"picks": [[1, False], [3, True], [0, False]]}).encode()


def test_the_page_shows_all_and_keeps_the_choice(told):
    with serving(told("--output", "out", "--with", "serve=true")) as url:
        page = get(url).decode()
        assert "/question.json" in page and "//" not in page.replace("<!doctype html>", "")
        before = {name: Path(f"out/templates/{name}.png").read_bytes() for name in CLASSES}
        question = json.loads(get(f"{url}question.json"))
        assert [(row["name"], row["count"]) for row in question] == [(c, FEW) for c in CLASSES]
        for place, row in enumerate(question):
            pictures = [get(f"{url}picture/{place}/{index}") for index in range(FEW)]
            files = [Path(f"out/candidates/{row['name']}/{i:02d}.png") for i in range(FEW)]
            assert pictures == [file.read_bytes() for file in files]
            assert pictures[row["index"]] == before[row["name"]]
            assert row["mirrored"] is False
        assert post(url, GOOD) == (200, "saved")
    candidates = Path("out/candidates")
    assert sorted(os.listdir("out/templates")) == ["back.png", "front.png", "side.png"]
    assert (
        Path("out/templates/front.png").read_bytes()
        == (candidates / "front" / "01.png").read_bytes()
    )
    mirrored = pixels(candidates / "side" / "03.png")[:, ::-1]
    assert np.array_equal(pixels("out/templates/side.png"), mirrored)
    assert np.array_equal(pixels("out/templates/back.png"), pixels(candidates / "back" / "00.png"))


def test_what_goes_wrong_is_told_to_the_page_which_may_post_again(told, monkeypatch):
    with serving(told("--output", "out", "--with", "serve=true")) as url:
        how = f"open this page as {url}; through ssh forward the same port, and set it with --with "
        port = url.split(":")[2].strip("/")
        assert post(url, GOOD, Host="evil.example") == (400, f"{how}port={port}")

        def full(self, pictures):
            raise RuntimeError("a\nb")

        with monkeypatch.context() as patch:
            patch.setattr(Pick, "of", full)
            assert post(url, GOOD) == (500, "RuntimeError: a b")
        Path("out/candidates/front/00.png").unlink()
        assert status(url, "/picture/0/0") == 500
        assert post(url, GOOD) == (200, "saved")


def test_nothing_but_pictures_can_be_asked_for_and_bad_posts_change_nothing(told):
    with serving(told("--output", "out", "--with", "serve=true")) as url:
        before = {file: file.read_bytes() for file in Path("out").rglob("*.png")}
        for path in (
            "/picture/3/0",
            f"/picture/0/{FEW}",
            "/picture/-1/0",
            "/picture/0/../../../full",
            "/picture/front/00.png",
            "/../candidates.png",
            "/candidates.png",
            "//etc/passwd",
            "/picture/%2e%2e/0",
            "/done",
        ):
            assert status(url, path) == 404, path
        assert status(url, "/", Host="evil.example") == 400
        assert status(url, "/", Host=url.split("/")[2].replace("127.0.0.1", "localhost")) == 200
        assert post(url, GOOD, kind="text/plain")[0] == 400
        assert post(url, GOOD, Host="evil.example")[0] == 400
        assert post(f"{url}elsewhere/", GOOD)[0] == 400
        assert post(url, b"", **{"Content-Length": "70000"})[0] == 400
        for body in BAD:
            assert post(url, body)[0] == 400, body
        assert {file: file.read_bytes() for file in Path("out").rglob("*.png")} == before
        assert post(url, GOOD) == (200, "saved")


BAD = [
    b"",
    b"no json",
    b"\xff",
    b"[" * 5000,
    b"[]",
    b"{}",
    b'{"picks": 5}',
    b'{"picks": []}',
    b'{"picks": [[0, false], [0, false]]}',
    b'{"picks": [[0, false], [0, false], [4, false]]}',
    b'{"picks": [[0, false], [0, false], [-1, false]]}',
    b'{"picks": [[0, false], [0, false], [true, false]]}',
    b'{"picks": [[0, false], [0, false], [0.0, false]]}',
    b'{"picks": [[0, false], [0, false], ["../../x", false]]}',
    b'{"picks": [[0, false], [0, false], [0, 1]]}',
    b'{"picks": [[0, false], [0, false], [0]]}',
    b'{"picks": [[0, false], [0, false], [0, false]], "folder": "x"}',
]


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_choice_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        read_picks(body, [FEW] * 3)


def test_a_choice_is_read_as_it_was_posted():
    assert read_picks(GOOD, [FEW] * 3) == [Pick(1), Pick(3, mirrored=True), Pick(0)]


# pictures of one's own


def own_pictures(root):
    """Three fronts, a side and two backs, one of them larger."""
    for seed, name in enumerate(["front/a", "front/b", "front/c", "side/a", "back/a", "back/b"]):
        size = 16 if name == "back/b" else 8
        levels = np.random.default_rng(seed).integers(256, size=(size, size, 3), dtype=np.uint8)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(root / f"{name}.png")
    return root


def test_one_can_choose_among_pictures_of_ones_own(told, world, tmp_path, capsys):
    own_pictures(tmp_path / "mine")
    model = (f"guidance.classifier.model={world[1]}",)
    assert main(told("--with", "pictures=mine", "--output", "out", settings_of=model)) == 0
    sheet = pixels("out/candidates.png")
    assert sheet.shape == (3 * 16, 3 * 16, 3)  # rows by name: back, front, side
    assert np.array_equal(sheet[:16, 16:32], pixels("mine/back/b.png"))
    assert (sheet[:16, 32:] == 255).all() and (sheet[32:, 16:] == 255).all()
    assert np.array_equal(pixels("out/templates/side.png"), pixels("out/candidates/side/00.png"))
    assert "pictures of '" not in capsys.readouterr().out  # the prior made none


def test_folders_without_classes_are_refused(told, tmp_path, capsys):
    (tmp_path / "mine" / "front").mkdir(parents=True)
    line = refused(capsys, told("--with", "pictures=mine", "--output", "out", settings_of=()))
    assert line == (
        "pictures is 'mine', which has 0 folders of pictures. Give one with a folder for each "
        "class, such as front, side and back. A folder with one picture of each is for "
        "guidance.classifier.templates."
    )


def test_what_is_for_making_pictures_is_refused_beside_ones_own(told, tmp_path, capsys):
    own_pictures(tmp_path / "mine")
    line = refused(capsys, told("--with", "pictures=mine", "--output", "out"))
    assert line.startswith("guidance.classifier.candidates is for pictures that the prior makes,")

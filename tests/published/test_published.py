"""Published models as priors: addresses, words, guidance, solvers, refusals."""

import hashlib
import json
import shutil
import sys

import pytest
import torch

pytest.importorskip("diffusers", reason="published models need the extra 'diffusers'")
pytest.importorskip("transformers", reason="published models need the extra 'diffusers'")

from invsolve_diffusers.examples import tiny
from invsolve_diffusers.prior import Published
from invsolve_operators import BlockMean, BoxMask, Mask

from invsolve import CapabilityError, GaussianNoise, InputError, InvsolveError, NoNoise, Problem, load_prior
from invsolve.priors.base import Prior
from invsolve.rng import Rng
from invsolve.solvers import DDIM, DPS
from invsolve.testing.denoisers import denoiser_checks

X = 0.5 + 0.3 * torch.linspace(0, 6, 2 * 3 * 16 * 16).sin().reshape(2, 3, 16, 16)
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    return {kind: tiny(kind, root / kind) for kind in ("text", "inpaint", "sd3", "super-resolution")}


@pytest.fixture
def z():
    return Rng(0, [0, 1]).normal((4, 8, 8), torch.zeros(1))


def test_an_address_a_folder_and_the_name_are_the_same_prior(folders, z):
    folder = folders["text"]
    options = {"prompt": "a cat", "negative": "dog", "scale": 3.0}
    made = [
        load_prior(f"diffusers:{folder}", **options),
        load_prior(folder, **options),
        load_prior("diffusers", path=str(folder), **options),
    ]
    assert all(isinstance(one, Published) for one in made)
    problem = Problem.unconditional((3, 16, 16), 2)
    first, *others = (one.given(one.space(problem)[0])(z, 2.0) for one in made)
    assert all(torch.equal(first, other) for other in others)


def test_a_run_is_recorded_with_the_files(folders):
    folder = folders["text"]
    prior = Published(str(folder))
    lines = ""
    for name in sorted(prior.files_sha256):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert prior.files_sha256[name] == digest
        lines += f"{digest}  {name}\n"
    assert "unet/diffusion_pytorch_model.safetensors" in prior.files_sha256
    assert "tokenizer/tokenizer.json" in prior.files_sha256
    assert prior.weights_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert Published(str(folder), sha256=prior.weights_sha256).weights_sha256 == prior.weights_sha256
    with pytest.raises(InputError, match="nothing was made of them"):
        Published(str(folder), sha256="0" * 64)
    with pytest.raises(InputError, match="64 hexadecimal"):
        Published(str(folder), sha256="short")
    assert set(prior.versions) == {"diffusers", "transformers"}


def test_twins_in_other_types_are_not_the_model(folders, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folders["text"], copy)
    for twin in ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin", "vae/model.onnx", "unet/notes.md"):
        (copy / twin).write_bytes(b"anything")
    assert Published(str(copy)).files_sha256 == Published(str(folders["text"])).files_sha256


def test_the_words_matter_and_each_item_may_have_its_own(folders, z):
    folder = str(folders["text"])
    cat, dog, both = (Published(folder, prompt) for prompt in ("a cat", "dogs", ["a cat", "dogs"]))
    assert (cat(z, 2.0) - dog(z, 2.0)).abs().max() > 1e-3
    assert both.batch == 2
    whole = both(z, 2.0)
    torch.testing.assert_close(whole[:1], cat(z[:1], 2.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole[1:], dog(z[1:], 2.0), rtol=0, atol=1e-5)
    assert isinstance(both[1], Published)
    torch.testing.assert_close(both[1](z[1:], 2.0), whole[1:], rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="rows for 2 items"):
        both(z[:1].expand(3, -1, -1, -1), 2.0)


def test_guidance_leads_from_the_negative_prompt_and_is_counted(folders, z):
    folder = str(folders["text"])
    problem = Problem.unconditional((3, 16, 16), 2)
    plain, away = Published(folder, "a cat"), Published(folder, "dog")
    led = Published(folder, "a cat", negative="dog", scale=3.0)
    expected = away(z, 2.0) + 3 * (plain(z, 2.0) - away(z, 2.0))
    torch.testing.assert_close(led.given(led.space(problem)[0])(z, 2.0), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(led.unconditional()(z, 2.0), away(z, 2.0), rtol=0, atol=1e-5)
    runs = [DDIM(steps=3).solve(problem, one, generator=0) for one in (plain, led)]
    assert [run.nfe for run in runs] == [3, 6]
    assert runs[0].x.shape == (2, 3, 16, 16)
    assert led.weights_sha256 == plain.weights_sha256


def test_a_solver_in_codes_takes_it(folders):
    """The likelihood is that of H(D(z)): the residual of DPS falls below that of the prior's own draws."""
    prior = Published(str(folders["text"]), "a cat", scale=2.0)
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=2), X, GaussianNoise(0.05), generator=0)
    drawn = DDIM(steps=6).solve(Problem.unconditional((3, 16, 16), 2), prior, generator=0)
    solved = DPS(steps=6).solve(problem, prior, generator=0)
    off = [(problem.operator(one.x) - problem.y).square().mean() for one in (drawn, solved)]
    assert off[1] < off[0]
    assert solved.latent.shape == (2, 4, 8, 8)


def test_a_code_book_lets_gradients_straight_through(tmp_path):
    prior = Published(str(tiny("unconditional", tmp_path / "ldm")))
    assert "straight through" in prior.decoder.surrogate
    z = Rng(0, [0]).normal((3, 8, 8), torch.zeros(1)).requires_grad_(True)
    scaling = prior.decoder.scaling
    near = (scaling * prior.decoder.vae.quantize(z.detach() / scaling)[0]).requires_grad_(True)
    slopes = [torch.autograd.grad(prior.decoder(one).square().sum(), one)[0] for one in (z, near)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-4)
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=2), X, GaussianNoise(0.05), generator=0)
    assert DPS(steps=2).solve(problem, prior, generator=0).x.shape == X.shape


def test_inpainting_sees_y_and_pastes_what_is_known(folders):
    prior = Published(str(folders["inpaint"]), "a cat")
    mask = BoxMask((3, 16, 16), box=6)
    problem = Problem.simulate(mask, X, NoNoise(), generator=0)
    solved = DDIM(steps=3).solve(problem, prior, generator=0)
    other = DDIM(steps=3).solve(Problem.simulate(mask, 1 - X, NoNoise(), generator=0), prior, generator=0)
    known = mask.mask.bool().expand(2, 3, 16, 16)
    assert torch.equal(solved.x[known], X[known])
    assert (solved.latent - other.latent).abs().max() > 1e-3, "y is not looked at"
    assert any("looked at y" in gap for gap in DPS().mismatches(problem, prior))
    assert any("lacks 'mask'" in gap for gap in DDIM().mismatches(Problem.simulate(BlockMean((3, 16, 16)), X, NoNoise()), prior))
    colours = Mask((3, 16, 16), mask=(torch.arange(768).reshape(3, 16, 16) % 3 > 0).float())
    assert any("whole pixels" in gap for gap in DDIM().mismatches(Problem.simulate(colours, X, NoNoise()), prior))
    with pytest.raises(InputError, match=r"given\(problem\)"):
        prior(torch.zeros(2, 4, 8, 8), 1.0)


def test_every_item_has_its_own_mask(folders):
    masks = torch.ones(2, 1, 16, 16)
    masks[0, :, 4:10, 4:10], masks[1, :, :5] = 0, 0
    problem = Problem.simulate(Mask((3, 16, 16), mask=masks), X, NoNoise(), generator=0)
    prior = Published(str(folders["inpaint"]), "a cat", scale=2.0)
    whole = DDIM(steps=2).solve(problem, prior, generator=0)
    for item in range(2):
        alone = DDIM(steps=2).solve(problem[item], prior, generator=0)
        torch.testing.assert_close(alone.latent[0], whole.latent[item], rtol=0, atol=1e-4)


def test_enlarging_is_for_reductions(folders):
    prior = Published(str(folders["super-resolution"]))
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=2), X, NoNoise(), generator=0)
    assert DDIM(steps=2).solve(problem, prior, generator=0).x.shape == X.shape
    wrong = [(BlockMean((3, 16, 16), factor=4), "enlarges pictures of 3x8x8"), (2.0 * BlockMean((3, 16, 16), factor=2), "not flat")]
    for operator, reason in wrong:
        assert any(reason in gap for gap in DDIM().mismatches(Problem.simulate(operator, X, NoNoise(), check_range=False), prior))
    with pytest.raises(InputError, match="takes no text"):
        Published(str(folders["super-resolution"]), "a cat")
    with pytest.raises(InputError, match="leave scale out"):
        Published(str(folders["super-resolution"]), scale=2.0)
    with pytest.raises(CapabilityError, match="takes no text"):
        prior.unconditional()


def test_a_start_from_the_guess_keeps_its_brightness(folders):
    """sigma 14.6 is not pure noise: the state that starts from E(guess) has its mean, the one about 0 has none of it."""
    prior = Published(str(folders["text"]), "a cat")
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=2), X, GaussianNoise(0.01), generator=0)
    solver = DPS(steps=3, sigma_max=prior.sigma_range[1])
    image = 0 * X + 0.7
    begin = prior.start(problem, solver, image=image, generator=3)
    noise = begin - prior.encode(image)
    level = solver.sigmas(prior)[0]
    assert level == pytest.approx(14.6146, abs=1e-4)
    # the standard deviation of 512 normal numbers is within 1 / sqrt(1024) of 1, four times over
    assert float(noise.std() / level) == pytest.approx(1, abs=0.125)
    assert torch.equal(begin, prior.start(problem, solver, image=image, generator=3))
    torch.testing.assert_close(begin[1:], prior.start(problem[1], solver, image=image[1:], generator=3), rtol=0, atol=1e-4)
    assert solver.solve(problem, prior, generator=0, x_init=prior.start(problem, solver)).x.shape == X.shape
    with pytest.raises(InputError, match="image must have shape"):
        prior.start(problem, solver, image=image[..., :8])


def test_codes_there_and_back(folders):
    """Encoder and decoder in the network's units: spread, shift and range, by hand."""
    for kind in ("text", "sd3"):
        prior = Published(str(folders[kind]))
        vae, config = prior.decoder.vae, prior.decoder.vae.config
        with torch.no_grad():
            latent = vae.encode(2 * X - 1).latent_dist.mode()
            code = (latent - (config.shift_factor or 0.0)) * config.scaling_factor
            torch.testing.assert_close(prior.encode(X), code, rtol=0, atol=1e-6)
            torch.testing.assert_close(prior.decoder(code), (vae.decode(latent).sample + 1) / 2, rtol=0, atol=1e-5)


def test_conformance_of_a_flow(folders):
    """The checks of every denoiser, but for whole runs (the registered example has them) and what nobody taught it: to denoise, to code."""
    prior = Published(str(folders["sd3"]), "a cat", scale=2.0)
    left_out = ("check_in_solvers", "check_denoises", "check_copies", "check_codes")
    for name, check in denoiser_checks(prior):
        if name not in left_out:
            check(prior)


def test_sizes(folders):
    assert Published(str(folders["text"]), size=(32, 16)).decoder.out_shape == (3, 32, 16)
    assert Published(str(folders["sd3"]), size=(8, 16)).in_shape == (4, 4, 8)
    for size in ((17, 16), (16,), (0, 16), 16):
        with pytest.raises(InputError, match="size must be"):
            Published(str(folders["text"]), size=size)
    prior = Published(str(folders["text"]))
    assert any("size=(32, 32)" in gap for gap in DDIM().mismatches(Problem.unconditional((3, 32, 32)), prior))


def edited(folder, tmp_path, name, **changes):
    """A copy with other settings."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(settings | changes))
    return str(copy)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "read are StableDiffusionPipeline"),
        ("model_index.json", {"unet": ["my_code", "Net"]}, "library 'my_code'"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "schedule"),
        ("scheduler/scheduler_config.json", {"beta_end": 2.0}, "schedule"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "schedule"),
        ("scheduler/scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "scheduler"),
        ("unet/config.json", {"block_out_channels": [8, 32]}, "cannot be loaded"),
    ],
)
def test_folders_that_are_not_read(folders, tmp_path, name, changes, message):
    with pytest.raises(InputError, match=message):
        load_prior(f"diffusers:{edited(folders['text'], tmp_path, name, **changes)}")


def test_flows_with_a_shift_of_each_size_are_not_read(folders, tmp_path):
    folder = edited(folders["sd3"], tmp_path, "scheduler/scheduler_config.json", use_dynamic_shifting=True)
    with pytest.raises(InputError, match="one positive shift"):
        Published(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": 3}, "prompt must be"),
        ({"prompt": []}, "prompt must be"),
        ({"negative": 3}, "negative must be"),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_words_that_are_none(folders, options, message):
    with pytest.raises(InvsolveError, match=message):
        Published(str(folders["text"]), **options)


def test_without_the_libraries_it_says_how_to_get_them(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'invsolve\[diffusers\]'"):
        load_prior(f"diffusers:{folders['text']}")


def test_a_network_of_images_in_a_folder_is_read_as_before(tmp_path):
    import diffusers

    net = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
    )
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler()).save_pretrained(str(tmp_path / "images"))
    with_prefix, without = load_prior(f"diffusers:{tmp_path}/images", check=False), load_prior(tmp_path / "images", check=False)
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_prefix(x, 0.3), without(x, 0.3))


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A folder in the hub's place, and what was asked for; what is in the cache is there without a network."""
    import huggingface_hub

    asked, cache = [], tmp_path / "cache"

    def snapshot(repository, *, revision, local_files_only=False, allow_patterns=(), ignore_patterns=()):
        asked.append((repository, revision, local_files_only))
        if not (cache / "unet").is_dir():
            if local_files_only:
                raise FileNotFoundError("not in the cache")
            shutil.copytree(folders["text"], cache, dirs_exist_ok=True)
        return str(cache)

    def download(repository, *, filename, revision, local_files_only=False):
        if local_files_only and not (cache / filename).exists():
            raise FileNotFoundError("not in the cache")
        if repository != "owner/name":
            raise ConnectionError("no route to the hub")
        cache.mkdir(exist_ok=True)
        return shutil.copy(folders["text"] / filename, cache / filename)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_a_commit_of_the_hub_is_had_once(hub, folders):
    first = load_prior(f"diffusers:owner/name@{REVISION}", prompt="a cat")
    assert hub == [("owner/name", REVISION, True), ("owner/name", REVISION, False)]
    again = load_prior(f"diffusers:owner/name@{REVISION}", prompt="a cat", sha256=first.weights_sha256)
    assert hub[2:] == [("owner/name", REVISION, True)]
    assert again.weights_sha256 == first.weights_sha256 == Published(str(folders["text"])).weights_sha256


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("diffusers:owner/name@main", "40 digits of a commit"),
        ("diffusers:owner/name@", "40 digits of a commit"),
        (f"diffusers:owner/..@{REVISION}", "40 digits of a commit"),
        ("diffusers:owner/name", "no such folder"),
        ("diffusers:nothing", "no such folder"),
        (f"diffusers:other/name@{REVISION}", "cannot be had"),
    ],
)
def test_what_is_not_pinned_or_not_there_is_refused(hub, address, message):
    with pytest.raises(InputError, match=message):
        load_prior(address)


def test_it_is_saved_and_read_and_a_run_goes_on_from_its_folder(folders, tmp_path, z):
    prior = load_prior(f"diffusers:{folders['text']}", prompt=["a cat", "dogs"], scale=2.0)
    prior.save(tmp_path / "prior")
    assert torch.equal(Prior.load(tmp_path / "prior")(z, 2.0), prior(z, 2.0))
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=2), X, GaussianNoise(0.05), generator=0)
    runs = [DPS(steps=2).solve(problem, prior, generator=0, chunk=1, checkpoint=tmp_path / "run") for _ in range(2)]
    assert torch.equal(runs[0].x, runs[1].x)
    # float32 networks give an item of a batch other roundings than the item alone
    torch.testing.assert_close(runs[0].x, DPS(steps=2).solve(problem, prior, generator=0).x, rtol=0, atol=1e-4)

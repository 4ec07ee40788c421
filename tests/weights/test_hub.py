"""Weights from the hub: pinned, compared and only then read. The hub is a folder here; its client is the real one when offline."""

import hashlib
import json
import shutil

import pytest
import torch
from invsolve_weights.places import FOLDER

from invsolve import InputError, load_prior

huggingface_hub = pytest.importorskip("huggingface_hub")
SCHEDULE = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}
REVISION = "0123456789abcdef0123456789abcdef01234567"
X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in the hub's place; returns it and the list of what was asked for."""
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        source, target = tmp_path / "hub" / name, tmp_path / "cache" / revision / name
        if not source.exists():
            raise FileNotFoundError(f"404: {name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(source, target))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub", asked


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_pinned_file_is_loaded(hub):
    folder, asked = hub
    import deepinv

    torch.manual_seed(0)
    network = deepinv.models.DRUNet(3, 3, nc=(8, 8, 16, 16), nb=2, pretrained=None)
    torch.save(network.state_dict(), folder / "net.pth")
    prior = load_prior(f"hub:owner/name/net.pth@{REVISION}", sha256=sha256(folder / "net.pth"), check=False)
    assert prior.weights_sha256 == sha256(folder / "net.pth")
    assert asked == [("owner/name", "net.pth", REVISION)]


def test_another_file_than_said_is_not_read(hub, monkeypatch):
    folder, _ = hub
    (folder / "net.pth").write_bytes(b"anything")
    monkeypatch.setattr("invsolve_weights.own.open_weights", None)  # reading would fail otherwise
    with pytest.raises(InputError, match=r"its sha256 is .*nothing was read"):
        load_prior(f"hub:owner/name/net.pth@{REVISION}", sha256="0" * 64)


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("hub:owner/name/net.pth@main", {"sha256": "0" * 64}, "40 digits of a commit"),
        ("hub:owner/name/net.pth", {"sha256": "0" * 64}, "40 digits of a commit"),
        (f"hub:owner/name/../net.pth@{REVISION}", {"sha256": "0" * 64}, "40 digits of a commit"),
        (f"hub:owner/name/net.pth@{REVISION}", {}, "give sha256="),
        (f"hub:owner/name/net.pth@{REVISION}", {"sha256": "short"}, "give sha256="),
        (f"hub:owner/name/none.pth@{REVISION}", {"sha256": "0" * 64}, "cannot be had"),
    ],
)
def test_what_is_not_pinned_is_refused(hub, address, options, message):
    with pytest.raises(InputError, match=message):
        load_prior(address, **options)


def test_offline_mode_is_honoured(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="cannot be had"):
        load_prior(f"hub:owner/name/net.pth@{REVISION}", sha256="0" * 64)


def test_a_diffusers_network_brings_its_configs(hub):
    diffusers = pytest.importorskip("diffusers")
    folder, asked = hub
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    network.save_pretrained(folder)
    (folder / "scheduler_config.json").write_text(json.dumps({"prediction_type": "epsilon", **SCHEDULE}))
    file = folder / "diffusion_pytorch_model.safetensors"
    prior = load_prior(f"hub:owner/name/{file.name}@{REVISION}", sha256=sha256(file), check=False)
    assert prior(X, 0.1).shape == X.shape
    assert {name for _, name, _ in asked} >= {"config.json", "scheduler_config.json", file.name}


def test_shipped_weights_never_ask_the_hub(hub):
    load_prior("natural")
    assert not hub[1]
    assert (FOLDER / "natural.safetensors").exists()

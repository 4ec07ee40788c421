"""clip_text: a prior led to a text by a CLIP model of transformers, tiny ones that the test makes."""

import sys

import pytest
import torch
from invsolve_classes import clip_text

from invsolve import CapabilityError, InputError, Problem
from invsolve.priors import GaussianMixturePrior, GaussianPrior
from invsolve.testing.oracle import normal


def test_without_transformers_it_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CapabilityError, match="pip install transformers"):
        clip_text(GaussianPrior(), tmp_path, "a cat")


def tiny_clip(folder):
    """A CLIP model of transformers' own classes with a vocabulary of a few words, saved."""
    transformers = pytest.importorskip("transformers")
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "cat</w>", "a", "c", "at"]
    (folder / "vocab.json").write_text("{" + ", ".join(f'"{word}": {index}' for index, word in enumerate(words)) + "}")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = {"vocab_size": 7, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_position_embeddings": 16}
    vision = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)).eval()
    model.save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def test_a_clip_model_of_transformers(tmp_path):
    """The similarity that transformers gives itself rises along the shift, and its logit is the cosine times its temperature."""
    model, tokenizer = tiny_clip(tmp_path)
    prior = clip_text(GaussianMixturePrior(torch.full((1, 3, 16, 16), 0.5), 0.2), tmp_path, "a cat", scale=1.0)
    bound = prior.given(Problem.unconditional((3, 16, 16), 2))
    x = 0.5 + 0.2 * normal(2, 3, 16, 16, seed=3).float()
    mean, std = (
        torch.tensor(values).reshape(1, 3, 1, 1) for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    with torch.no_grad():
        theirs = model(**tokenizer(["a cat"], return_tensors="pt"), pixel_values=(x - mean) / std).logits_per_image[:, 0]
        ours = bound.value(x, torch.tensor([0.1, 0.1]))
        assert torch.allclose(ours * model.logit_scale.exp(), theirs, rtol=0, atol=1e-4)
        plain = prior.denoiser(x, 0.1)
        shift = bound(x, 0.1) - plain
        assert bool(
            (bound.value(plain + 0.1 * shift / shift.flatten(1).norm(dim=1).reshape(2, 1, 1, 1), None) > bound.value(plain, None)).all()
        )


def test_a_folder_without_a_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds no CLIP model"):
        clip_text(GaussianPrior(), tmp_path, "a cat")


def test_no_folder_and_no_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is none at '/nowhere'"):
        clip_text(GaussianPrior(), "/nowhere", "a cat")
    with pytest.raises(InputError, match="text must say what the image is to show; given ' '"):
        clip_text(GaussianPrior(), tmp_path, " ")

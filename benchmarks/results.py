"""The page of an experiment in `docs/results/`, from its runs.

    python -m fedmem.experiment ml-100k
    python benchmarks/results.py ml-100k [RUNS …] [--data-dir DIR]

RUNS are folders of runs, `runs/experiments/NAME` if none is given. The tables replace those between
`<!-- ml-100k -->` and `<!-- /ml-100k -->` in `docs/results/ml-100k.md`; the text around them is
written by hand. Where there is no such page, one begins with the tables alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.files.atomic import replacing
from fedmem.experiment.arms import load_experiment
from fedmem.report.runs import find_runs, read_runs
from fedmem.report.study import Study
from fedmem.report.text import markdown_tables

PAGES = Path(__file__).parents[1] / "docs" / "results"
CAPTIONS = {
    "arms": "On the test items, mean ± s.d. over seeds:",
    "privacy": "What the stages have spent:",
    "share": "Shares of what the same model reaches on pooled data, with the same seeds:",
    "differences": "The last stage of each arm less that of `{against}`, on the same users and "
    "seeds, with its 95% interval by the bootstrap over users:",
    "slices": "The same slice by slice",
}
FOLDED = ("slices",)
"""Tables that a reader unfolds."""


def section(study: Study, against: str) -> str:
    """The tables of a study, each under its caption, and what the runs were made with."""
    parts = []
    for name, table in markdown_tables(study).items():
        caption = CAPTIONS[name].format(against=against)
        if name in FOLDED:
            folded = f"<details><summary>{caption}</summary>"
            parts.append(f"{folded}\n\n{table}\n</details>\n")
        else:
            parts.append(f"{caption}\n\n{table}")
    parts += [f"{note}.\n" for note in study.notes]
    parts += [f"Made with {line}.\n" for line in study.made_with]
    return "\n".join(parts)


def marks(name: str) -> tuple[str, str]:
    """The lines before and after the tables of an experiment."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def new_page(name: str) -> str:
    """A page with a title and no tables yet."""
    begin, end = marks(name)
    return f"# {name}\n\n{begin}\n{end}\n"


def put(page: str, name: str, text: str) -> str:
    """The page with the text between the markers of that experiment.

    Raises:
        FedmemError: it has no such markers.
    """
    begin, end = marks(name)
    found = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not found.search(page):
        raise FedmemError(f"{name}.md has no {begin} … {end}: write them where the tables belong.")
    return found.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the experiment")
    parser.add_argument("runs", nargs="*", help="folders of its runs")
    parser.add_argument("--data-dir", type=Path, help="of its data, if not where the runs found it")
    given = parser.parse_args(arguments)
    with readable_exit():
        experiment = load_experiment(given.name)
        folders = given.runs or [str(Path("runs") / "experiments" / given.name)]
        runs, unread = read_runs(find_runs(folders), given.data_dir)
        order = {arm: place for place, arm in enumerate(experiment.arms)}
        runs.sort(key=lambda run: order.get(run.folder.parent.name, len(order)))
        text = section(Study.of(runs, experiment.against, unread), experiment.against)
        path = PAGES / f"{given.name}.md"
        page = path.read_text(encoding="utf-8") if path.exists() else new_page(given.name)
        with replacing(path) as partial:
            partial.write_text(put(page, given.name, text), encoding="utf-8")


if __name__ == "__main__":
    main()

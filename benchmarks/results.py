"""The tables of `docs/results.md`, from the runs of an experiment.

    python -m fedmem.experiment ml-100k
    python benchmarks/results.py ml-100k [RUNS …] [--data-dir DIR]

RUNS are folders of runs, `runs/experiments/NAME` if none is given. The tables take the place of
those between `<!-- ml-100k -->` and `<!-- /ml-100k -->`; what stands around is written by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.files.atomic import replacing
from fedmem.experiment.arms import load_experiment
from fedmem.report.runs import find_runs, read_run
from fedmem.report.study import Study
from fedmem.report.text import markdown_tables

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
CAPTIONS = {
    "arms": "On the test items, mean ± s.d. over seeds:",
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


def put(page: str, name: str, text: str) -> str:
    """The page with the text between the marks of that name.

    Raises:
        FedmemError: it has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    marks = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not marks.search(page):
        raise FedmemError(f"{PAGE.name} has no {begin} … {end}: write them where tables belong.")
    return marks.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the experiment")
    parser.add_argument("runs", nargs="*", help="folders of its runs")
    parser.add_argument("--data-dir", type=Path, help="of its data, if not where the runs found it")
    asked = parser.parse_args(arguments)
    with readable_exit():
        experiment = load_experiment(asked.name)
        places = asked.runs or [str(Path("runs") / "experiments" / asked.name)]
        runs = [read_run(folder, asked.data_dir) for folder in find_runs(places)]
        order = {arm: place for place, arm in enumerate(experiment.arms)}
        runs.sort(key=lambda run: order.get(run.folder.parent.name, len(order)))
        text = section(Study.of(runs, experiment.against), experiment.against)
        page = put(PAGE.read_text(encoding="utf-8"), asked.name, text)
        with replacing(PAGE) as partial:
            partial.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A run in MLflow, where MLflow's own environment variables say: MLFLOW_TRACKING_URI and others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Self

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody's use is reported
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # seconds, not minutes, in silence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from fedmem.core.errors import FedmemError, first_line
from fedmem.core.files.atomic import replacing
from fedmem.core.settings import Settings, flattened
from fedmem.runs.folder import MLFLOW_RUN, RunFolder
from fedmem.runs.tracking import Tracker

AT_ONCE = 100  # parameters that MLflow takes in one call


class MLflow(Tracker):
    """Logs settings as parameters, and figures as metrics under their stage's name, a step a round.

    The experiment is named after the data, where MLFLOW_EXPERIMENT_NAME names no other. The run's
    folder keeps the id, under which a run that goes on is found again. What MLflow has already is
    not reported a second time.
    """

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self._settings = settings
        self._folder = folder
        self._steps: dict[str, set[int]] = {}  # by metric

    def __enter__(self) -> Self:
        with _readable():
            self._client = MlflowClient()
            self._run = self._found() or self._begun()
            self._client.update_run(self._run, "RUNNING")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(MlflowException):  # a status is no reason to fail, all figures are there
            done = self._folder.state.done
            self._client.set_terminated(self._run, "FINISHED" if done else "KILLED")

    def _report(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Log these together, unless the first of them was there when the run went on."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"{stage}/{name}".replace("@", "_at_"), value, now, step)
            for name, value in figures.items()
        ]
        with _readable():
            first = metrics[0].key
            if first not in self._steps:
                history = self._client.get_metric_history(self._run, first)
                self._steps[first] = {metric.step for metric in history}
            if step not in self._steps[first]:
                self._client.log_batch(self._run, metrics, synchronous=True)

    def _found(self) -> str | None:
        """The id that the folder keeps; None where it keeps none, or the store does not know it."""
        path = self._folder.path / MLFLOW_RUN
        if not path.is_file():
            return None
        run = path.read_text(encoding="utf-8").strip()
        try:
            self._client.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run

    def _begun(self) -> str:
        """The id of a new run with the settings, which the folder keeps."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", self._settings.data.name)
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(place, run_name=self._folder.path.name).info.run_id
        settings = flattened(asdict(self._settings))
        parameters = [Param(key, str(value)) for key, value in settings.items()]
        for start in range(0, len(parameters), AT_ONCE):
            self._client.log_batch(run, params=parameters[start : start + AT_ONCE])
        with replacing(self._folder.path / MLFLOW_RUN) as partial:
            partial.write_text(f"{run}\n", encoding="utf-8")
        return str(run)


@contextmanager
def _readable() -> Iterator[None]:
    """Make what MLflow does not take an error that a user can read."""
    try:
        yield
    except MlflowException as error:
        raise FedmemError(
            f"MLflow does not take this run: {first_line(error)}.\n"
            "Without it: tracking.mlflow=false."
        ) from error

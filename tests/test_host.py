"""A host of trials, without Ray: it trains what it is given, tells how it goes, and does as it is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.experiment import Experiment
from orchestrator.launch import announce_run
from orchestrator.recipes import load
from orchestrator.scene import Scene
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.folder import sweep_key
from orchestrator.sweep.host import Host
from orchestrator.sweep.member import announce_trial
from orchestrator.sweep.messages import Answers, Assignment, Beat, Order
from orchestrator.worker import work
from tests.support.threads import one_thread

__all__ = ["one_thread"]

SWEEP = "20261122-000000-sweeps"
SMALL = {
    "gan.width": 8,
    "gan.depth": 1,
    "train.steps": 20,
    "train.batch": 16,
    "train.log_every": 5,
    "train.evaluate_every": 10,
    "train.sample_every": 0,
    "train.checkpoint_every": 10,
    "train.on_collapse": "ignore",
}


class Driver:
    """Answers beats with what it is told to, and remembers them by trial."""

    def __init__(self, answer: Callable[[Beat], Answers] = lambda beat: []) -> None:
        self.answer = answer
        self.heard: defaultdict[int, list[Beat]] = defaultdict(list)

    def tell(self, beats: list[Beat]) -> Answers:
        for beat in beats:
            self.heard[beat.number].append(beat)
        return [answer for beat in beats for answer in self.answer(beat)]

    def rungs(self, number: int) -> list[int]:
        return [beat.step for beat in self.heard[number] if beat.figures and beat.state == "running"]


def small(**changes: Any) -> Experiment:
    return load("vanilla.ring").override(SMALL | {k.replace("__", "."): v for k, v in changes.items()})


def host(objects: Objects, driver: Driver, experiment: Experiment | None = None) -> Host:
    document = (experiment or small()).document()
    return Host(objects, document, SWEEP, driver.tell, Scene(objects))


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


def test_a_trial_is_trained_to_its_end_and_told_at_every_evaluation(objects: Objects) -> None:
    driver = Driver()
    host(objects, driver).run([Assignment(3, {"gan.lr_ratio": 2.0})], packed=False)
    assert driver.rungs(3) == [10]
    last = driver.heard[3][-1]
    assert (last.state, last.step, last.progress) == ("complete", 20, 1.0)
    assert last.run_id is not None
    run = Run(objects, last.run_id)
    assert run.document() | {"sweep": SWEEP, "trial": 3, "params": {"gan.lr_ratio": 2.0}} == run.document()
    assert last.figures == (run.sealed() or {})["figures"]
    assert last.seconds > 0
    assert 0 < last.devices <= 1


def test_a_trial_that_is_told_to_stop_is_sealed_as_pruned_with_a_picture_and_the_reason(
    objects: Objects,
) -> None:
    driver = Driver(lambda beat: [(beat.number, Order("stop", "rung 0"))] if beat.figures else [])
    host(objects, driver).run([Assignment(0, {})], packed=False)
    last = driver.heard[0][-1]
    assert (last.state, last.step, last.reason) == ("pruned", 10, "rung 0")
    run = Run(objects, last.run_id or "")
    sealed = run.sealed()
    assert sealed is not None
    assert (sealed["state"], sealed["reason"]) == ("pruned", "rung 0")
    assert [step for step, _ in run.samples()] == [10]


def test_a_trial_exploits_another_one_and_says_so_in_its_results(objects: Objects) -> None:
    first = Driver()
    host(objects, first).run([Assignment(0, {})], packed=False)
    donor = first.heard[0][-1].run_id
    order = Order("exploit", "in the worst quarter", donor, 10, {"gan.lr_ratio": 4.0})
    second = Driver(lambda beat: [(beat.number, order)] if beat.figures and beat.step == 10 else [])
    host(objects, second).run([Assignment(1, {"gan.lr_ratio": 1.0})], packed=False)
    sealed = Run(objects, second.heard[1][-1].run_id or "").sealed()
    assert sealed is not None
    (change,) = sealed["changes"]
    assert (change["step"], change["fields"], change["remedy"]) == (10, {"lr_ratio": 4.0}, False)
    assert change["why"].startswith("in the worst quarter")
    assert donor in change["why"]
    assert sealed["step"] == 20


def test_in_a_pack_a_trial_that_ends_makes_room_for_the_next(objects: Objects) -> None:
    following = [Assignment(2, {"gan.lr_ratio": 3.0}), Assignment(3, {"gan.lr_ratio": 4.0})]

    def answer(beat: Beat) -> Answers:
        if beat.number == 0 and beat.figures and beat.state == "running":
            return [(0, Order("stop", "rung 0"))]
        return [following.pop(0)] if beat.state != "running" and following else []

    driver = Driver(answer)
    given = [Assignment(0, {"gan.lr_ratio": 1.0}), Assignment(1, {"gan.lr_ratio": 2.0})]
    host(objects, driver).run(given, packed=True)
    ends = {number: beats[-1].state for number, beats in driver.heard.items()}
    assert ends == {0: "pruned", 1: "complete", 2: "complete", 3: "complete"}
    assert all(beats[-1].devices <= 1.0 for beats in driver.heard.values())
    assert sum(beats[-1].seconds * beats[-1].devices for beats in driver.heard.values()) > 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_trial_that_paused_comes_to_what_it_comes_to_undisturbed(objects: Objects, packed: bool) -> None:
    params, others = {"gan.lr_ratio": 2.0}, [Assignment(9, {"gan.lr_ratio": 1.0})] if packed else []
    experiment = small(train__checkpoint_every=0)
    undisturbed = Driver()
    host(objects, undisturbed, experiment).run([Assignment(0, params), *others], packed)
    driver = Driver(lambda beat: [(0, Order("pause"))] if beat.number == 0 and beat.figures else [])
    host(objects, driver, experiment).run([Assignment(0, params), *others], packed)
    paused = driver.heard[0][-1]
    assert (paused.state, paused.step, paused.progress, paused.figures) == ("paused", 10, 0.5, {})
    run = Run(objects, paused.run_id or "")
    assert (run.state(), run.checkpoints()) == ("paused", [(10, 1)])
    if packed:
        assert driver.heard[9][-1].state == "complete"
    again = Driver()
    host(objects, again, experiment).run([Assignment(0, params, run.id), *others], packed)
    assert again.heard[0][-1].state == "complete"
    assert again.heard[0][-1].figures == pytest.approx(undisturbed.heard[0][-1].figures, rel=1e-3, abs=1e-3)
    assert run.metrics()["step"].to_pylist() == [5, 10, 15, 20]
    assert run.metrics()["attempt"].to_pylist() == [1, 1, 2, 2]


def test_in_a_pack_a_trial_that_pauses_makes_room_for_one_that_paused_before(objects: Objects) -> None:
    def answer(beat: Beat) -> Answers:
        if beat.number == 0 and beat.state == "running" and beat.step == 10:
            return [(0, Order("pause"))]
        if beat.state == "paused":
            return [Assignment(2, {"gan.lr_ratio": 3.0})]
        if beat.number == 2 and beat.state == "complete":
            return [Assignment(0, {"gan.lr_ratio": 1.0}, run_id=driver.heard[0][0].run_id)]
        return []

    driver = Driver(answer)
    given = [Assignment(0, {"gan.lr_ratio": 1.0}), Assignment(1, {"gan.lr_ratio": 2.0})]
    host(objects, driver).run(given, packed=True)
    assert {number: beats[-1].state for number, beats in driver.heard.items()} == dict.fromkeys(
        range(3), "complete"
    )
    assert len(objects.folders("runs")) == 3
    seconds = [beat.seconds for beat in driver.heard[0]]
    assert seconds != sorted(seconds)  # it began anew


def test_a_packed_trial_comes_to_what_it_comes_to_alone(objects: Objects) -> None:
    alone, packed = Driver(), Driver()
    given = [Assignment(n, {"gan.lr_ratio": float(n + 1)}) for n in range(2)]
    for assignment in given:
        host(objects, alone).run([assignment], packed=False)
    host(objects, packed).run(given, packed=True)
    for n in range(2):
        one, other = alone.heard[n][-1].figures, packed.heard[n][-1].figures
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_a_trial_whose_fields_or_data_do_not_fit_fails_with_the_reason_and_the_others_go_on(
    objects: Objects,
) -> None:
    driver = Driver()
    given = [Assignment(0, {"gan.lr_ratio": -1.0}), Assignment(1, {"train.batch": 10**6}), Assignment(2, {})]
    host(objects, driver).run(given, packed=True)
    assert {number: beats[-1].state for number, beats in driver.heard.items()} == {
        0: "failed",
        1: "failed",
        2: "complete",
    }
    assert "gan.lr_ratio" in driver.heard[0][-1].reason
    assert "train.batch" in driver.heard[1][-1].reason
    assert (Run(objects, driver.heard[1][-1].run_id or "").sealed() or {})["state"] == "failed"


def test_a_trial_that_breaks_is_sealed_as_failed(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("out of memory, say")

    monkeypatch.setattr("gans.families.vanilla.Vanilla.objective", broken)
    driver = Driver()
    host(objects, driver).run([Assignment(0, {})], packed=False)
    last = driver.heard[0][-1]
    assert (last.state, last.reason) == ("failed", "RuntimeError('out of memory, say')")
    assert (Run(objects, last.run_id or "").sealed() or {})["state"] == "failed"


def test_a_store_that_fails_ends_the_host_and_leaves_the_run_to_be_taken_up(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise StoreError("out of reach")

    monkeypatch.setattr("orchestrator.store.writer.RunWriter.checkpoint", unreachable)
    with pytest.raises(StoreError, match="out of reach"):
        host(objects, Driver()).run([Assignment(0, {})], packed=False)
    (run_id,) = objects.folders("runs")
    assert Run(objects, run_id).sealed() is None


def test_a_run_that_was_cut_off_is_taken_up_where_it_was(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.store.writer.RunWriter.seal", _cut)
        with pytest.raises(KeyboardInterrupt):
            host(objects, Driver()).run([Assignment(0, {})], packed=False)
    (run_id,) = objects.folders("runs")
    driver = Driver()
    host(objects, driver).run([Assignment(1, {}, run_id=run_id)], packed=False)
    assert driver.heard[1][-1].state == "complete"
    assert objects.folders("runs") == [run_id]
    assert (Run(objects, run_id).sealed() or {})["attempt"] == 2


def _cut(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_that_ended_unheard_is_told_and_not_trained_again(objects: Objects) -> None:
    run_id = announce_run(objects, small(), sweep=SWEEP)
    outcome = work(objects.url, run_id)
    driver = Driver()
    host(objects, driver).run([Assignment(5, {}, run_id=run_id)], packed=False)
    (beat,) = driver.heard[5]
    assert (beat.state, beat.figures, beat.run_id) == ("complete", outcome.figures, run_id)


def test_seeds_of_a_configuration_are_runs_with_other_seeds(objects: Objects) -> None:
    run_id = announce_trial(objects, small().document(), SWEEP, Assignment(0, {}, seed=7))
    assert Run(objects, run_id).document()["experiment"]["seed"] == 7
    assert not objects.exists(sweep_key(SWEEP, "sweep.json"))

"""Anchors: full models that were really run, and by how much they correct what is predicted of others.

kappa = actual / predicted time of a full model, by the rule of docs/method.md, section 6.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from weighin_analysis.card import Anchor
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import (
    LEAST_QUIET_ROUNDS,
    LOAD_SD,
    RoundTimes,
    anchor_times,
    disturbed_round,
    full_model_times,
    is_alone,
    quiet_series,
)
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase


def find_anchors(cases: Mapping[Case, Sequence[Measurement]]) -> tuple[Anchor, ...]:
    """Return an anchor for every full model that ran beside a layer probe of itself, in each phase."""
    found = []
    for case, measurements in cases.items():
        probe = next((other for other in cases if _same_model(other, case) and not is_alone(cases[other])), None)
        if probe is None or not is_alone(measurements):
            continue
        logs: defaultdict[Phase, list[tuple[float, float]]] = defaultdict(list)
        predicted = {(m.phase, m.token_count, m.context_depth): m for m in cases[probe]}
        for measurement in measurements:
            beside = predicted.get((measurement.phase, measurement.token_count, measurement.context_depth))
            if beside is None or _of_the_load(measurement) or _of_the_load(beside):
                continue
            try:
                actual, guess = anchor_times(measurement), full_model_times(beside)
            except EstimateError:
                continue
            if min(len(actual.seconds), len(guess.seconds)) < LEAST_QUIET_ROUNDS:
                continue
            sd = math.hypot(actual.rounds_sd, guess.rounds_sd, LOAD_SD, LOAD_SD)
            logs[measurement.phase].append((math.log(actual.median_seconds / guess.median_seconds), sd))
        found += [
            Anchor(
                architecture=case.architecture.name,
                scheme=case.scheme,
                execution_provider=case.execution_provider,
                threads=case.threads,
                phase=phase,
                kappa=math.exp(float(np.median([log for log, _ in pairs]))),
                sd=float(np.median([sd for _, sd in pairs])),
            )
            for phase, pairs in logs.items()
        ]
    return tuple(found)


def corrected(times: RoundTimes, case: Case, phase: Phase, anchors: Sequence[Anchor]) -> RoundTimes:
    """Return predicted times as the anchor of their scheme corrects them; one that is not plausible widens them."""
    anchor = next((one for one in anchors if _covers(one, case, phase)), None)
    if anchor is None:
        return times
    if not anchor.plausible:
        return replace(times, method_sd=math.hypot(times.method_sd, math.log(anchor.kappa)))
    kappa = anchor.kappa if anchor.applied else 1.0
    return replace(times, seconds=tuple(kappa * seconds for seconds in times.seconds))


def _of_the_load(measurement: Measurement) -> bool:
    """Return whether too few rounds were quiet, or CPU time was taken: it then tells of the load, not of the method."""
    return any(one.clock is ClockKind.THREAD_CPU or disturbed_round(one) for one in quiet_series(measurement.series))


def _same_model(one: Case, other: Case) -> bool:
    def key(case: Case) -> tuple[object, ...]:
        return case.architecture, case.scheme, case.execution_provider, case.threads

    return one is not other and key(one) == key(other)


def _covers(anchor: Anchor, case: Case, phase: Phase) -> bool:
    own = case.scheme, case.execution_provider, case.threads, phase
    return own == (anchor.scheme, anchor.execution_provider, anchor.threads, anchor.phase)

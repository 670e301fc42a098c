"""How many pods there should be (DESIGN 4.1): a buffer of free capacity, a rate limit up, a stabilisation window down.

Missing data never scales down. A surge pod of a roll is not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .slots import scaling_load
from .types import Autoscale, Desired, FreeCapacity, Recommendation, SetStatus, SlotObservation


@dataclass(frozen=True, slots=True)
class Count:
    """The decided count and what must be remembered of how it came about."""

    replicas: int
    recommended: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    last_scale_time: float | None = None
    last_scale_up_time: float | None = None


def needed(used: int, capacity: int, free: FreeCapacity) -> int:
    """The smallest number of pods of `capacity` that leaves `free` beside `used` calls."""
    if free.percent is not None:
        return -(-used * 100 // (capacity * (100 - free.percent)))
    return -(-(used + (free.amount or 0)) // capacity)


def decide_count(
    desired: Desired, slots: Sequence[SlotObservation], before: SetStatus, now: float, hold_down: bool
) -> Count:
    """The number of pods. `hold_down` puts an automatic scale-in off (a roll is under way)."""
    if desired.deleting or desired.autoscale is None:
        count = Count(0 if desired.deleting else desired.replicas or 0)
    else:
        count = _automatic(desired, desired.autoscale, slots, before, now, hold_down)
    up = before.replicas is not None and count.replicas > before.replicas
    return Count(
        replicas=count.replicas,
        recommended=count.recommended,
        recommendations=count.recommendations,
        last_scale_time=before.last_scale_time if count.replicas == before.replicas else now,
        last_scale_up_time=now if up else before.last_scale_up_time,
    )


def _automatic(
    desired: Desired,
    autoscale: Autoscale,
    slots: Sequence[SlotObservation],
    before: SetStatus,
    now: float,
    hold_down: bool,
) -> Count:
    standing = before.replicas if before.replicas is not None else len(slots)
    current = _clamp(standing, autoscale)
    loads = [scaling_load(slot, desired.kind) for slot in slots]
    wanted = _clamp(needed(sum(n or 0 for n, _ in loads), desired.capacity, autoscale.free_capacity), autoscale)
    earlier = before.recommended if before.recommended is not None else current
    window = _window(before.recommendations, earlier, wanted, now, autoscale.down_window)
    stable = min(max([wanted, *(entry.replicas for entry in window)]), autoscale.max)
    replicas = current
    if stable > current and _may_grow(autoscale, before, now):
        replicas = min(stable, current + autoscale.up_pods)
    elif stable < current and not hold_down:
        replicas = stable
    known = all(sure for _, sure in loads)
    if not known or not {slot.ordinal for slot in slots} >= set(range(max(current, replicas))):
        replicas = max(replicas, current)
        wanted = max(wanted, replicas)
        window = tuple(entry for entry in window if entry.replicas > wanted)
    return Count(replicas, wanted, window)


def _clamp(count: int, autoscale: Autoscale) -> int:
    return max(autoscale.min, min(autoscale.max, count))


def _may_grow(autoscale: Autoscale, before: SetStatus, now: float) -> bool:
    last = before.last_scale_up_time
    return last is None or now - last >= autoscale.up_period or last > now


def _window(
    entries: Sequence[Recommendation], earlier: int, wanted: int, now: float, length: float
) -> tuple[Recommendation, ...]:
    """The recommendations that held within the last `length` seconds and are higher than `wanted`, falling.

    An entry holds until a lower one takes its place, however long nobody looked; so a gap in the data counts as the
    count from before it.
    """
    if earlier > wanted:
        entries = [*entries, Recommendation(now, earlier)]
    return tuple(entry for entry in entries if entry.replicas > wanted and entry.until > now - length)

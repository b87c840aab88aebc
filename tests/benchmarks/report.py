"""What every benchmark prints: one line a figure, with its target where there is one."""

from __future__ import annotations


class Report:
    """Prints `name value target ok|short` as figures come in and remembers whether one fell short."""

    def __init__(self) -> None:
        self.exit_code = 0

    def add(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """A figure; without a target it is information."""
        ok = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bounds = [
            f"{sign} {bound:g}" for sign, bound in (("≥", at_least), ("≤", at_most)) if bound is not None
        ]
        verdict = ("ok" if ok else "short") if bounds else ""
        shown = f"{value:.4g}{' ' if unit else ''}{unit}"
        print(f"{name:<40} {shown:<18} {', '.join(bounds):<10} {verdict}".rstrip(), flush=True)
        self.exit_code = self.exit_code if ok else 1

"""Progress of a conversion on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tqdm import tqdm

    from converter.pipeline import Progress

#: Unit of each stage that is measured.
UNITS = {"fetch": "B", "write": "B", "calibrate": " tokens", "deliver": "B"}
#: What a step of the other stages is introduced with.
STEPS = {
    "fetch": "fetching ",
    "read": "reading ",
    "write": "writing ",
    "calibrate": "calibrating: ",
    "verify": "verifying: ",
    "deliver": "uploading ",
}


class Bar:
    """Progress on standard error: a line for each step, a bar with rate and remaining time where there is a measure."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def show(self, progress: Progress) -> None:
        if self.hidden:
            return
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
        if not progress.total:
            click.echo(STEPS[progress.stage] + progress.item, err=True)
            return
        if self._bar is None:
            from tqdm import tqdm

            unit = UNITS[progress.stage]
            self._bar = tqdm(total=progress.total, unit=unit, unit_scale=True, dynamic_ncols=True, file=sys.stderr)
        self._bar.set_postfix_str(progress.item, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

"""Runs the whole suite with mortal processes while sample quotes take their courses, then lets it come to rest and audits it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from reconciliation.audit_report import AuditReport
from tests.faults.crashes.lives import MORTAL, SHORT, Lives, short_waits
from tests.faults.crashes.places import Places
from tests.support.audits import wrong
from tests.support.suite import EVERYTHING, open_shop, prepared, working
from workers.demo.command import ending_on_error
from workers.demo.courses import sample_quotes
from workers.demo.driver import SampleQuote
from workers.local.stack import LocalStack

AT_ONCE = 6  # quotes under way; more would only wait for the same dead processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What is left when the processes live on undisturbed. `errors` are those of which a process died otherwise."""

    places: Places
    samples: list[SampleQuote]
    errors: list[str]
    report: AuditReport

    @property
    def unexpected(self) -> list[str]:
        """A sentence for each thing that the crashes have changed."""
        ends = [f"{each.course} ended as {each.end}, not as {each.expected}" for each in self.samples if not each.as_expected]
        return [*ends, *self.errors, *wrong(self.report)]


def crash_processes(
    stack: LocalStack,
    places: Places,
    *,
    goes_on: Callable[[], bool] = lambda: False,
    tells: Callable[[], object] = lambda: None,
) -> Aftermath:
    """Take sample quotes through their courses while processes die; more of them as long as `goes_on`. `tells` is called after each."""
    samples: list[SampleQuote] = []
    with prepared(stack, **SHORT) as local, open_shop(local) as shop:

        def drive(sample: SampleQuote) -> None:
            shop.driver.drive(sample)
            tells()

        with (
            working(local.settings, "http"),
            short_waits(),
            ThreadPoolExecutor(AT_ONCE) as pool,
            ending_on_error(local),
            ExitStack() as mortals,
        ):
            processes = [mortals.enter_context(Lives(name, local.settings, places, local.stopped)) for name in MORTAL]
            while not samples or goes_on():
                more = sample_quotes(len(samples) + AT_ONCE)[len(samples) :]
                list(pool.map(drive, more))
                samples += more
        with working(local.settings, *EVERYTHING):
            shop.comes_to_rest()
        errors = [error for process in processes for error in process.errors]
        return Aftermath(places=places, samples=samples, errors=errors, report=shop.audit())

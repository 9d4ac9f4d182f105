"""What can be sold and what has to be done to deliver it: three sample products, in the one version of the catalog that there is.

A quote keeps the version that it was configured against, and cannot be priced under another one. An order is decomposed with the version of the moment,
which its plan and its steps keep. That an order is decomposed with the version of its quote is not built yet: it needs more than one version at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """A product offering. `max_quantity` bounds one line; `requires` names offerings that must be on the same quote."""

    product_offering_id: str
    name: str
    product_family: str
    max_quantity: int
    requires: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """What a provider promises; copied into each step when it is planned.

    `idempotent`: a repeat under the same key has no second effect, for `key_window_seconds` from the first request on. `has_lookup`: it can be asked
    what became of a key. `cancellable`: it takes the cancellation of a request that is under way.
    """

    provider_name: str
    idempotent: bool = True
    has_lookup: bool = True
    cancellable: bool = True
    key_window_seconds: int = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpecification:
    """A step of delivery. `offering` ties it to the lines of that offering; None: once for the whole order.

    `after` names the steps of the plan that must be done first; `is_ponr` marks the point of no return.
    """

    step_code: str
    offering: str | None = None
    after: frozenset[str] = frozenset()
    is_ponr: bool = False
    compensable: bool = True
    provider_name: str = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One published version. `lead_time` is promised to a customer who asks for no date."""

    catalog_version: str
    offerings: dict[str, Offering] = field(default_factory=dict)
    steps: tuple[StepSpecification, ...] = ()
    providers: Mapping[str, ProviderFacts] = field(default_factory=dict)
    lead_time: timedelta = timedelta(days=10)

    def family_of(self, offering_ids: Iterable[str]) -> str:
        """The product family of most lines, or the first by name of several: policy and authority depend on it."""
        families = [self.offerings[offering_id].product_family for offering_id in offering_ids]
        return max(sorted(set(families)), key=families.count)


FIBRE, ROUTER, SUPPORT = "FIBRE_1000", "ROUTER_PRO", "SUPPORT_PLUS"

CATALOG = Catalog(
    catalog_version="2026.11",
    offerings={
        offering.product_offering_id: offering
        for offering in (
            Offering(product_offering_id=FIBRE, name="Fibre line 1000", product_family="CONNECTIVITY", max_quantity=50),
            Offering(
                product_offering_id=ROUTER,
                name="Router Pro",
                product_family="HARDWARE",
                max_quantity=200,
                requires=frozenset({FIBRE}),
            ),
            Offering(product_offering_id=SUPPORT, name="Support Plus", product_family="SERVICE", max_quantity=200),
        )
    },
    providers={"sandbox": ProviderFacts(provider_name="sandbox")},
    steps=(
        StepSpecification(step_code="RESERVE_INVENTORY", offering=ROUTER),
        StepSpecification(step_code="CHECK_SERVICEABILITY", offering=FIBRE),
        StepSpecification(
            step_code="PROVISION_SERVICE",
            offering=FIBRE,
            after=frozenset({"RESERVE_INVENTORY", "CHECK_SERVICEABILITY"}),
            is_ponr=True,
            compensable=False,
        ),
        StepSpecification(step_code="SHIP_ROUTER", offering=ROUTER, after=frozenset({"PROVISION_SERVICE"})),
        StepSpecification(step_code="ACTIVATE_BILLING", after=frozenset({"PROVISION_SERVICE"})),
        StepSpecification(step_code="UPDATE_INSTALLED_BASE", after=frozenset({"SHIP_ROUTER", "ACTIVATE_BILLING"})),
        StepSpecification(step_code="NOTIFY_CUSTOMER", after=frozenset({"UPDATE_INSTALLED_BASE"}), compensable=False),
    ),
)

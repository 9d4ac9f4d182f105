"""A request to a provider, and the time that a test gives it."""

from __future__ import annotations

from datetime import timedelta

from workers.providers.budget import CallBudget
from workers.providers.port import (
    ProviderRequest,
)

KEY = "fulfillment:a3f1:EXECUTE"
REQUEST = ProviderRequest(
    idempotency_key=KEY,
    step_ref="step:t1:a3f1",
    step_code="ACTIVATE_BILLING",
    product_offering_id="fiber-1000",
    quantity=1,
    order_ref="order:t1:o1",
)
SHORT = CallBudget(connect=timedelta(milliseconds=300), total=timedelta(milliseconds=500))

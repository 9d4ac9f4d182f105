"""An example body of each command, for readers of the OpenAPI document. A test checks each example against its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from workers.http.shapes import approval_bodies, bodies, order_bodies, quote_bodies

REVISION = "0b8cfa53-46d5-4d11-9d06-7a2f0f3a5a10"
CONFIGURATION = "4f9a3f3e-0f43-4b0e-9a5e-5c0c1f6e7b21"
PRICE = "c1d5b0d8-3d8a-4a3e-8f65-2f8a5f0f9c32"
APPROVAL = "7e2b6a57-95a4-4c7c-8a1d-0d4f7b8b6e43"
DOCUMENT = "a9c3e1f4-5b6d-4e8f-9a0b-1c2d3e4f5a54"
REQUIREMENT = "d2f4b6a8-1c3e-4f5a-8b7c-6d9e0f1a2b65"

EXAMPLES: Mapping[type[BaseModel], dict[str, Any]] = {
    quote_bodies.CreateQuoteBody: {
        "customerId": "C-1001",
        "region": "ID-JAVA",
        "currency": "EUR",
        "paymentTermDays": 30,
        "validUntil": "2031-12-31T23:59:59+07:00",
        "lines": [
            {"productOfferingId": "FIBRE_1000", "quantity": 1, "termMonths": 24, "discountPercent": "12.50"},
            {"productOfferingId": "ROUTER_PRO", "quantity": 1, "termMonths": 24},
        ],
    },
    quote_bodies.EditQuoteBody: {
        "expectedRevisionId": REVISION,
        "reasonCode": "CUSTOMER_REQUEST",
        "termMonths": 36,
        "lines": [{"lineNo": 1, "discountPercent": "18"}],
        "addLines": [{"productOfferingId": "SUPPORT_PLUS", "quantity": 1, "termMonths": 36}],
        "removeLines": [2],
    },
    quote_bodies.PriceQuoteBody: {
        "configResultId": CONFIGURATION,
        "catalogVersion": "2026.1",
        "stalenessPolicy": "REPRICE_ON_MATERIAL_CHANGE",
    },
    quote_bodies.SubmitQuoteBody: {"revisionId": REVISION, "configResultId": CONFIGURATION, "priceResultId": PRICE},
    quote_bodies.IssueDocumentBody: {"revisionId": REVISION, "priceResultId": PRICE},
    quote_bodies.AcceptQuoteBody: {
        "revisionId": REVISION,
        "priceResultId": PRICE,
        "approvalRequestId": APPROVAL,
        "documentId": DOCUMENT,
        "channel": "WEB",
    },
    quote_bodies.WithdrawBody: {"revisionId": REVISION, "reasonCode": "PROJECT_POSTPONED"},
    approval_bodies.DecideBody: {
        "requirementId": REQUIREMENT,
        "expectedRequirementVersion": 1,
        "quoteRevisionId": REVISION,
        "priceResultId": PRICE,
        "decision": "APPROVE",
        "reasonCode": "STRATEGIC_DEAL",
        "comment": "Three sites follow in spring.",
    },
    quote_bodies.PublishBody: {
        "expectedActiveVersion": "p-44",
        "priceBookVersion": "p-45",
        "entries": [
            {"productOfferingId": "FIBRE_1000", "listPrice": "85.00", "unitCost": "41.50"},
            {"productOfferingId": "ROUTER_PRO", "listPrice": "12.00", "unitCost": "6.00"},
        ],
        "materialOfferingIds": ["FIBRE_1000"],
    },
    approval_bodies.GrantBody: {
        "subject": "rina",
        "role": "approverRsm",
        "region": "ID-JAVA",
        "maxDiscountPercent": "20",
        "maxDealAmount": "50000.00",
        "validUntil": "2031-12-31T23:59:59+07:00",
    },
    approval_bodies.DelegateBody: {"subject": "dewi", "validUntil": "2031-08-31T23:59:59+07:00", "maxDiscountPercent": "15"},
    order_bodies.CancelOrderBody: {"expectedStatus": "IN_PROGRESS", "reason": "PROJECT_STOPPED"},
    bodies.EmptyBody: {},
    order_bodies.QuestionBody: {"question": "Which of the two addresses is right?"},
    order_bodies.InformationBody: {"information": "The second one."},
    order_bodies.HoldBody: {"reason": "The provider looks at it until Monday."},
    order_bodies.AssessCancellationBody: {"decision": "DECLINE", "reason": "TECHNICIAN_ON_SITE"},
    order_bodies.SecondOpinionBody: {
        "proposalId": "6f2c1e0a-5a0e-4c53-9a44-0f5f6f0e7a11",
        "text": "Seen in the provider's portal.",
    },
    order_bodies.ResolutionBody: {
        "resolution": "MARK_COMPLETED",
        "expectedStepVersion": 4,
        "externalRef": "SHIP-4711",
        "evidence": "Seen in the provider's portal.",
    },
    order_bodies.CallbackBody: {
        "eventId": "evt-20261124-0001",
        "eventType": "step.completed",
        "stepRef": f"step:{APPROVAL}:{DOCUMENT}",
        "requestId": "req-1",
        "externalRef": "ext-1",
        "occurredAt": "2026-11-24T14:00:00Z",
    },
}

"""The example with policies that use more of Cedar: single resources, levels, optional parameters, wildcards."""

from typing import Final

from tests.unit.policy.bundles import COURIER, SHARED, SUPPORT, WHOLESALE, added, replaced, without_cases

ODD_POLICIES: Final = f"""
@id("odd-one-order") @max_lifetime("PT1M")
permit (principal == Agent::"{SUPPORT}", action == Action::"order.cancel", resource == Order::"retail/7");
@id("odd-other-tenant") @max_lifetime("PT1M") @step_up("{{\\"kind\\": \\"user\\"}}")
permit (principal == Agent::"{SHARED}", action == Action::"customer.payout_change", resource == Customer::"wholesale/9")
when {{ context.parameters.account like "DE*" || context.on_behalf_of == "the owner" }};
@id("odd-levels") @max_lifetime("PT30S")
permit (principal == Agent::"{WHOLESALE}", action in [Action::"customer.read", Action::"order.read"], resource)
when {{ context.sensitivity == "high" && resource in Sensitivity::"high" }} unless {{ context.risk == "high" }};
@id("odd-optional") @max_lifetime("PT3M") @scope("{{\\"amount\\": {{\\"max\\": 900}}}}")
permit (principal == Agent::"{SHARED}", action == Action::"order.refund", resource in Tenant::"retail")
when {{
    context.parameters has note && context.parameters.note like "*r\\*ma*"
    && ["EUR", "CHF"].contains(context.parameters.currency) && !(context.parameters.amount - (10 - 3) <= 100)
}};
@id("odd-forbid-note")
forbid (principal, action == Action::"order.refund", resource)
when {{ if context.parameters has note then context.parameters.note == "r*ma!" else context.on_behalf_of == "nobody" }};
@id("odd-forbid-one") @reason("This order is being looked into.")
forbid (principal, action in Action::"write", resource == Order::"retail/13");
@id("odd-forbid-but-one")
forbid (principal == Agent::"{COURIER}", action == Action::"order.read", resource)
unless {{ resource == Order::"retail/7" || context.task != "" }};
"""
ODD: Final = without_cases(added("odd.cedar", ODD_POLICIES))
# A role's permit without a resource type: it loads since orders are low, and must never count for customers.
WIDE: Final = without_cases(
    added(
        "odd.cedar",
        '@id("odd-wide") @max_lifetime("PT5M")\n'
        'permit (principal in Role::"order-reader", action == Action::"order.read", resource);',
        replaced("schema.cedarschema", "resource: [Order]", "resource: [Order, Customer]"),
    )
)

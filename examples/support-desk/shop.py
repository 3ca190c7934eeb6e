"""What the shop holds: the orders and customers of two business units. Both of the example's services serve it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order, and the business unit that owns it. The price is in cents."""

    tenant: str
    customer: str
    article: str
    price_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """One customer, and the business unit that owns the record."""

    tenant: str
    name: str


ORDERS: Final = {
    "1230": Order(tenant="retail", customer="c-77", article="kettle", price_cents=3_990),
    "1231": Order(tenant="retail", customer="c-78", article="desk lamp", price_cents=5_450),
    "1232": Order(tenant="retail", customer="c-79", article="bread knife", price_cents=2_199),
    "1233": Order(tenant="retail", customer="c-77", article="rug", price_cents=12_900),
    "1234": Order(tenant="retail", customer="c-77", article="coffee grinder", price_cents=8_990),
    "1235": Order(tenant="retail", customer="c-78", article="umbrella", price_cents=1_790),
    "1236": Order(tenant="retail", customer="c-80", article="bookshelf", price_cents=14_900),
    "1237": Order(tenant="retail", customer="c-79", article="tea towels", price_cents=1_250),
    "8001": Order(tenant="wholesale", customer="w-01", article="400 kettles", price_cents=1_040_000),
    "8002": Order(tenant="wholesale", customer="w-02", article="90 desk lamps", price_cents=310_500),
    "8003": Order(tenant="wholesale", customer="w-01", article="1200 umbrellas", price_cents=1_380_000),
    "8004": Order(tenant="wholesale", customer="w-03", article="60 bookshelves", price_cents=612_000),
}
CUSTOMERS: Final = {
    "c-77": Customer(tenant="retail", name="Customer 77"),
    "c-78": Customer(tenant="retail", name="Customer 78"),
    "c-79": Customer(tenant="retail", name="Customer 79"),
    "c-80": Customer(tenant="retail", name="Customer 80"),
    "w-01": Customer(tenant="wholesale", name="Wholesale customer 1"),
    "w-02": Customer(tenant="wholesale", name="Wholesale customer 2"),
    "w-03": Customer(tenant="wholesale", name="Wholesale customer 3"),
}


def tenant_of_order(order_id: str) -> str:
    """Return who owns an order; nobody ("") owns one that does not exist, so no credential covers it."""
    order = ORDERS.get(order_id)
    return order.tenant if order else ""


def tenant_of_customer(customer_id: str) -> str:
    """Return who owns a customer's record; nobody ("") owns one that does not exist."""
    customer = CUSTOMERS.get(customer_id)
    return customer.tenant if customer else ""

"""The verbs of approvals, and of drifted tasks."""

from typing import Any, Final

from broker.issuer import convert_approvals as approvals
from broker.issuer import convert_drifted as drifted
from broker.issuer.verb import PAGE_WEIGHT, Verb

LIST: Final = Verb(
    call="list_approvals",
    answer="approvals",
    encode_call=approvals.encode_list,
    decode_call=approvals.decode_list,
    encode_answer=approvals.encode_approval_list,
    decode_answer=approvals.decode_approval_list,
    ask=lambda issuer, call: issuer.list_approvals(call),
    weight=4 * PAGE_WEIGHT,
)
GET: Final = Verb(
    call="get_approval",
    answer="approval",
    encode_call=approvals.encode_approval_call,
    decode_call=approvals.decode_approval_call,
    encode_answer=approvals.encode_shown,
    decode_answer=approvals.decode_shown,
    ask=lambda issuer, call: issuer.get_approval(call),
)
APPROVE: Final = Verb(
    call="approve",
    answer="answered",
    encode_call=approvals.encode_approve,
    decode_call=approvals.decode_approve,
    encode_answer=approvals.encode_answered,
    decode_answer=approvals.decode_answered,
    ask=lambda issuer, call: issuer.approve(call),
)
DENY: Final = Verb(
    call="deny",
    answer="answered",
    encode_call=approvals.encode_approval_call,
    decode_call=approvals.decode_approval_call,
    encode_answer=approvals.encode_answered,
    decode_answer=approvals.decode_answered,
    ask=lambda issuer, call: issuer.deny(call),
)
WITHDRAW: Final = Verb(
    call="withdraw_approval",
    answer="answered",
    encode_call=approvals.encode_approval_call,
    decode_call=approvals.decode_approval_call,
    encode_answer=approvals.encode_answered,
    decode_answer=approvals.decode_answered,
    ask=lambda issuer, call: issuer.withdraw_approval(call),
)
PAGE: Final = Verb(
    call="read_approvals",
    answer="approval_page",
    encode_call=approvals.encode_page_call,
    decode_call=approvals.decode_page_call,
    encode_answer=approvals.encode_approval_page,
    decode_answer=approvals.decode_approval_page,
    ask=lambda issuer, call: issuer.approval_page(call),
    weight=PAGE_WEIGHT,
)
LIST_DRIFTED: Final = Verb(
    call="list_drifted",
    answer="drifted_tasks",
    encode_call=drifted.encode_list_drifted,
    decode_call=drifted.decode_list_drifted,
    encode_answer=drifted.encode_drifted_list,
    decode_answer=drifted.decode_drifted_list,
    ask=lambda issuer, call: issuer.list_drifted(call),
    weight=4 * PAGE_WEIGHT,
)
ALL: Final[tuple[Verb[Any, Any], ...]] = (LIST, GET, APPROVE, DENY, WITHDRAW, PAGE, LIST_DRIFTED)

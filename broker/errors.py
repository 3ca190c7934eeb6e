"""Every refusal this broker and its SDKs can give: one stable reason, one safe sentence, one next step.

    Refusal (exception)
    └── reason: Reason ── category: Category
        ├── UNAUTHENTICATED   who asks could not be established            TLS_*, SVID_*
        ├── INVALID           the request cannot be understood             REQUEST_*, INTENT_*
        ├── DENIED            understood, and not allowed                  POLICY_*, AGENT_*, LIMIT_REACHED, ...
        ├── UNMET             allowed only after something else happens    STEP_UP_REQUIRED, TASK_*, KEY_*
        ├── UNKNOWN           names something that does not exist          *_UNKNOWN
        ├── CONFLICT          a name that is already used for another      REQUEST_ID_REUSED
        ├── OUT_OF_RANGE      a cursor that points nowhere                 CURSOR_*
        ├── EXHAUSTED         over a limit                                 LIMIT_*
        ├── UNAVAILABLE       the broker cannot, now; nothing was given    *_UNAVAILABLE
        └── TOKEN             a validator will not accept this credential  TOKEN_*, VIEW_*

The reason's name is part of the API: it never changes meaning and is never reused (docs/reasons.md lists them).
`sentence` may be shown to an end user as it is; `next_step` is for the developer or operator who reads the error.
Neither ever contains a value from the request.
"""

from enum import Enum, unique

from broker.meaning import LATER as _LATER
from broker.meaning import REQUEST as _REQUEST
from broker.meaning import Category, Meaning
from broker.meaning import cursor as _cursor
from broker.meaning import denied as _denied
from broker.meaning import identity as _identity
from broker.meaning import invalid as _invalid
from broker.meaning import token as _token
from broker.meaning import unavailable as _unavailable
from broker.meaning import unknown as _unknown
from broker.meaning import unmet as _unmet
from broker.refusal import Held, Refusal

__all__ = ["Category", "Held", "Meaning", "Reason", "Refusal"]


@unique
class Reason(Enum):
    """Every stable reason, with what it means."""

    # who asks
    TLS_VERSION_REFUSED = _identity("Connect with TLS 1.3.")
    SVID_ABSENT = _identity("Present an X.509-SVID as client certificate; the Workload API gives one.")
    SVID_MALFORMED = _identity("Present a certificate that parses, with intermediates in order.")
    SVID_URI_COUNT = _identity("An X.509-SVID carries exactly one URI SAN; check the registration entry.")
    SVID_ID_INVALID = _identity("The URI SAN is not a SPIFFE ID by the standard's grammar.")
    SVID_PATH_MISSING = _identity("A bare trust domain is not a workload; use an ID with a path.")
    SVID_PATH_RESERVED = _identity("IDs under /spire belong to SPIRE itself; register a workload ID.")
    SVID_IS_BROKER = _identity("The broker does not exchange for itself; use the agent's own SVID.")
    SVID_CAN_SIGN = _identity("A leaf that is a CA or may sign certificates is not a workload's.")
    SVID_TRUST_DOMAIN_UNKNOWN = _identity(
        "No bundle for this trust domain; federate it (-federatesWith) with the broker."
    )
    SVID_CHAIN_INVALID = _identity("The chain does not lead to the bundle of the ID's own trust domain.")
    SVID_EXPIRED = _identity("The SVID has expired; fetch the current one and reconnect.")
    SVID_NOT_YET_VALID = _identity("The SVID is not valid yet; check the clocks.")
    IDENTITY_TOKEN_REFUSED = _identity(
        "The identity token does not count; the detail says which check it failed. Sign the person in again for a new "
        "ID token; compare [[oidc]], and of a customer the client that the task type names, with its issuer.",
        sentence="I cannot tell who you are; please sign in again.",
    )
    # what was asked
    REQUEST_MALFORMED = _invalid("The message does not decode as this RPC's request; check the proto version.")
    REQUEST_INVALID = _invalid("A field breaks its rule in the proto; the metadata names the field.")
    INTENT_NAME_INVALID = _invalid("Names match [a-z0-9][a-z0-9._/-]* and are at most 128 long.")
    INTENT_RESOURCE_INVALID = _invalid("Name one resource id, or one declared set, of at most 256 bytes.")
    INTENT_PARAMETERS_SYNTAX = _invalid("parameters is one JSON object, as text.")
    INTENT_PARAMETERS_NUMBER = _invalid(
        "Numbers are integers within 2^53-1; give money in minor units, decimals as text."
    )
    INTENT_PARAMETERS_NULL = _invalid("Leave a parameter out instead of sending null.")
    INTENT_PARAMETERS_DUPLICATE = _invalid("A key stands twice in parameters.")
    INTENT_PARAMETERS_SIZE = _invalid("parameters: at most 32 KiB, 16 levels, 512 members.")
    INTENT_PARAMETERS_TEXT = _invalid("parameters holds text that is not well-formed Unicode.")
    CREDENTIAL_TOO_LARGE = _invalid("What was granted does not fit into a token of 7 KiB; send shorter parameters.")
    # what policy says
    PRINCIPAL_UNKNOWN = _denied(
        "This SPIFFE ID is not in the policy bundle; add it under agents, services or operators."
    )
    PERSON_UNKNOWN = _denied(
        "A person has to say this, and nobody in the bundle is who came: add a [[person]] with this identity, or send "
        "the person's identity token; of a customer, one for the client that the task type names.",
        sentence="I cannot decide this; a person has to.",
    )
    AGENT_WITHOUT_OWNER = _denied("Name a business owner and a security owner for this agent in the bundle.")
    ACTION_UNKNOWN = _denied("The bundle's schema does not declare this action.")
    AUDIENCE_UNKNOWN = _denied("The audience is not a service that the bundle registers for a tenant of the caller.")
    RESOURCE_TYPE_UNKNOWN = _denied("The audience does not declare this resource type.")
    RESOURCE_SET_UNKNOWN = _denied("The bundle does not declare this set of resources for the caller's tenant.")
    RESOURCE_SET_REFUSED = _denied("Sets are for low-sensitivity reads; name one resource.")
    PARAMETERS_REFUSED = _denied("The parameters do not fit what the schema declares for this action.")
    PURPOSE_REFUSED = _denied("This purpose is not registered for this agent.")
    TENANT_REQUIRED = _denied("This agent serves several tenants: begin a task and name the tenant there.")
    TENANT_REFUSED = _denied("The tenant is not the caller's own, or the service named does not serve it.")
    POLICY_FORBIDDEN = _denied("A forbid policy applies; its id is in the metadata.")
    POLICY_NOT_PERMITTED = _denied("No policy permits this; `broker policy explain` shows what would have to change.")
    POLICY_ERROR = _denied("A policy failed to evaluate, so the answer is no; run `broker policy check`.")
    SCOPE_EMPTY = _denied("A permitting policy's @scope leaves nothing of what was asked.")
    OVERRIDE_IN_FORCE = _denied(
        "People have stopped this; `broker stop list` shows who and why, and another operator lifts it.",
        sentence="The people responsible for me have stopped this for now. I cannot go on before they allow it again.",
    )
    AGENT_REVOKED = _denied("The agent was revoked; an operator can lift the revocation.")
    TENANT_REVOKED = _denied("The tenant was revoked; an operator can lift the revocation.")
    POLICY_REVOKED = _denied("A policy that would permit this was revoked; an operator can lift it.")
    TASK_REVOKED = _denied("The task was revoked; begin a new one.", sentence="What I was working on has been stopped.")
    TASK_TYPE_REFUSED = _denied(
        "The bundle has no such type of task for this agent, purpose and tenant, or it is not for the caller to begin."
    )
    TASK_BOUNDARY_EXCEEDED = _denied(
        "The intent lies outside the task's boundary, whatever policy says; begin a task that covers it.",
        sentence="This is outside what I am working on, so I left it alone.",
    )
    TASK_BOUNDARY_WIDER = _denied("A task is narrower than its type, and only ever becomes narrower; ask for less.")
    LIMIT_REACHED = _denied(
        "A @limit of the policy that the detail names is used up, or would be: ask for less, or wait until the task, "
        "conversation or day that it counts for is another; `broker policy explain` shows the limits.",
        sentence="I have reached the limit of what I may do of this. A colleague has to help from here.",
    )
    LIMIT_AMOUNT_REFUSED = _denied(
        "A @limit adds up a parameter that is missing here, or no integer of at least 0; the detail names it."
    )
    DUTY_SEPARATED = _denied(
        "The bundle keeps this action apart from another one that was granted in this task; another task has to do it.",
        sentence="After what I have done here, this is for somebody else to do.",
    )
    SEQUENCE_REFUSED = _denied(
        "With what was granted before, this would complete a sequence that the bundle refuses; the detail names it.",
        sentence="Together with what I did before, this goes too far, so I left it alone. A colleague can help.",
    )
    CREDENTIAL_REVOKED = _denied(
        "The credential was revoked; ask again.", sentence="My permission for this was taken back."
    )
    CREDENTIAL_SPENT = _denied(
        "The credential is good for one act and was spent on it; for another, exchange again.",
        sentence="My permission for this was good for one time, and that is used up. I will not do it twice.",
    )
    STREAM_REFUSED = _denied("This reader is no longer allowed to follow this stream.")
    # what must happen first
    STEP_UP_REQUIRED = _unmet(
        "A person has to approve this first.",
        "Wait for the approval that the metadata names, then ask again with its id; nothing was given yet.",
    )
    APPROVAL_PENDING = _unmet(
        "A person still has to approve this.", "Nobody has decided yet: wait for the approval, then ask again."
    )
    APPROVAL_EXPIRED = _unmet(
        "Nobody approved this in time, or I came back too late.", "Ask again without the approval's id for a new one."
    )
    APPROVAL_WITHDRAWN = _unmet(
        "The request for this was taken back.", "It was withdrawn, or its task ended; ask again without its id."
    )
    APPROVAL_USED = _unmet(
        "This was approved for one time, and that is over.",
        "An approval is used once; for the same once more ask without its id.",
    )
    APPROVAL_MISMATCH = _denied(
        "An approval is for one intent, byte for byte, in one task; ask for this one without the id. Who approves "
        "looks at it again, and names the digest that it has now.",
        sentence="What I am about to do is not what was approved.",
    )
    APPROVAL_DENIED = _denied(
        "Do not ask again for the same; ask who decided.", sentence="A person has decided against this."
    )
    APPROVER_REFUSED = _denied(
        "Who approves is whom the requirement names: not the requester, nor an owner where those are excluded. A tool "
        "or a front end says nothing of its own: it sends the person's identity token.",
        sentence="This is for somebody else to approve.",
    )
    BYPASS_REFUSED = _denied("The @step_up that holds this lets nobody bypass it for so long.")
    AUTHENTICATION_STALE = _unmet(
        "You have to sign in again before you approve this.",
        "The identity token's auth_time is missing or too old; sign the person in again, by prompt=login or max_age.",
    )
    TASK_REQUIRED = _unmet("I have to open a task for this first.", "Writes need a task: BeginTask, then name it.")
    TASK_ENDED = _unmet("What I was working on is finished.", "The task has ended; begin a new one.")
    TASK_DEADLINE_PASSED = _unmet(
        "What I was working on ran out of time.", "The deadline has passed; begin a new task."
    )
    TASK_DEADLINE_REFUSED = _unmet(
        "I asked for more time than I may have.", "Name a deadline in the future, within the limit."
    )
    TASK_TYPE_REQUIRED = _unmet(
        "I have to say first what kind of task this is.",
        "The bundle declares types of tasks, and not exactly one fits: name one that is for this agent and purpose.",
    )
    TASK_HEARTBEAT_MISSED = _unmet(
        "What I was working on was stopped, because I did not report on it.",
        "Three heartbeats in a row were missed, so the task is over; begin a new one.",
    )
    TASK_SUSPENDED = _unmet(
        "What I was working on is suspended until somebody has looked at it.",
        "The task was refused too often what lies outside it; whoever was told of it lets it go on with"
        " `broker task resume`.",
    )
    TASK_NOT_SUSPENDED = _unmet("There is nothing to let go on.", "The task is not suspended, or is over.")
    TASK_BOUNDARY_CHANGED = _unmet(
        "What I am working on has just been narrowed; I will look again.",
        "The task was narrowed while this was decided; ask again.",
    )
    SEQUENCE_CHANGED = _unmet(
        "What I am doing has just moved on; I will look again.",
        "Another grant came in between while this was decided; ask again.",
    )
    LIFETIME_EXHAUSTED = _unmet(
        "My identity is about to be renewed; I will try again.",
        "Less than a second is left of the SVID or the task; fetch the current SVID and ask again.",
    )
    KEY_NOT_READY = _unmet(
        "The keys of this system cannot be changed yet.",
        "The next key has to be published for a while before it signs; ask again at the time in the detail.",
    )
    SECOND_PERSON_REQUIRED = _unmet(
        "Somebody else has to allow this again.",
        "Who imposed an override does not lift it: another operator does, who is another person by the bundle.",
    )
    # what is named
    APPROVAL_UNKNOWN = _unknown(
        "No such approval that the caller may see: `broker approvals` lists those that wait for whoever asks. Of a "
        "customer's, `broker doctor` says whether their front end may show it."
    )
    TASK_UNKNOWN = _unknown("No such task of this agent.")
    CREDENTIAL_UNKNOWN = _unknown("No such credential, or not one that you may name.")
    REVOCATION_UNKNOWN = _unknown("No such revocation, or it was lifted already.")
    REVOCATION_TARGET_UNKNOWN = _unknown("The bundle and the store know nothing by that name.")
    OVERRIDE_UNKNOWN = _unknown("No such override, or it was lifted already; `broker stop list` shows those in force.")
    KEY_UNKNOWN = _unknown("No such key, or it was removed already; `broker keys list` shows those that count.")
    REDEMPTION_NOT_NEEDED = Meaning(
        category=Category.CONFLICT,
        sentence=_REQUEST,
        next_step="This credential may be used until it ends; only one whose `use` is `once` is redeemed.",
    )
    REQUEST_ID_REUSED = Meaning(
        category=Category.CONFLICT,
        sentence=_REQUEST,
        next_step="This request_id was used for another intent or with another SVID; take a new one.",
    )
    USE_UNKNOWN = _unknown(
        "This service has reported no such use of this credential; report first that it was accepted."
    )
    REPORT_ID_REUSED = Meaning(
        category=Category.CONFLICT,
        sentence=_REQUEST,
        next_step="This report id was used for another report; take a new one.",
    )
    OUTCOME_CONTRADICTED = Meaning(
        category=Category.CONFLICT,
        sentence=_REQUEST,
        next_step="What came of this use was reported already, and this cannot follow it.",
    )
    # where a stream goes on
    CURSOR_MALFORMED = _cursor("This is not a cursor of this broker; start without one.")
    CURSOR_TAMPERED = _cursor("The cursor's seal does not match; start without one.")
    CURSOR_FOREIGN = _cursor("The cursor belongs to another log, stream, filter or reader; start without one.")
    CURSOR_FROM_THE_FUTURE = _cursor("The cursor is ahead of the log: was the store restored from a backup?")
    CURSOR_TOO_OLD = _cursor("The log no longer holds this position; start without a cursor, from the snapshot.")
    # limits
    LIMIT_STREAM_ITEMS = Meaning(
        category=Category.EXHAUSTED,
        sentence=_LATER,
        next_step="Too many items in one message; send at most 256.",
    )
    LIMIT_APPROVALS = Meaning(
        category=Category.EXHAUSTED,
        sentence="I have asked people for too much at once; they have to answer what is open first.",
        next_step="Too many requests of this agent wait for people; withdraw some, or wait for answers.",
    )
    LIMIT_BUSY = Meaning(category=Category.EXHAUSTED, sentence=_LATER, next_step="Too many requests wait; back off.")
    # what the broker lacks
    AUDIT_UNAVAILABLE = _unavailable(
        "The audit log cannot be written, so nothing is given; check disk and permissions."
    )
    TRUST_UNAVAILABLE = _unavailable("The broker has no trust bundles yet; check its SPIRE agent.")
    POLICY_UNAVAILABLE = _unavailable("No policy bundle is active; run `broker policy check` on the policy directory.")
    REDEMPTION_UNAVAILABLE = _unavailable(
        "The service could not redeem the single-use credential at the broker, and did nothing; exchange again."
    )
    IDENTITY_UNAVAILABLE = _unavailable(
        "The keys of the identity token's issuer cannot be fetched, or are too old; `broker doctor` looks at them."
    )
    SIGNING_UNAVAILABLE = _unavailable("No signing key is active; check [keys] dir.")
    ISSUER_UNAVAILABLE = _unavailable("The issuer does not answer; ask again with the same request_id.")
    INTERNAL = _unavailable("A defect in the broker; its log names the request id.")
    # what a validator says
    TOKEN_MISSING = _token("Send the credential in `authorization: Bearer`.")
    TOKEN_MALFORMED = _token("This is not a credential of this broker.")
    TOKEN_KEY_UNKNOWN = _token("The signing key is not in the broker's key set.")
    KEY_SET_INVALID = _token("The broker's key set cannot be read; compare the versions of broker and validator.")
    TOKEN_SIGNATURE_INVALID = _token("The signature does not verify.")
    TOKEN_CLAIMS_REFUSED = _token("A claim is missing, unknown or of the wrong form.")
    TOKEN_ISSUER_REFUSED = _token("The credential is from another issuer.")
    TOKEN_AUDIENCE_REFUSED = _token("The credential is for another service.")
    TOKEN_EXPIRED = _token("The credential has expired; exchange again.")
    TOKEN_NOT_YET_VALID = _token("The credential is not valid yet; check the clocks.")
    TOKEN_HOLDER_MISMATCH = _token("The credential is bound to another key than the caller's.")
    TOKEN_TENANT_MISMATCH = _token("The resource belongs to another tenant than the credential.")
    TOKEN_SCOPE_EXCEEDED = _token("The credential does not cover this action, resource or parameters.")
    TOKEN_USE_REFUSED = _token("A single-use credential, where nothing redeems it; in the SDK, `Guard.accept` does.")
    TOKEN_REVOKED = _token("The credential was revoked.")
    CALL_UNMAPPED = _token("This service does not tell its validator what the call touches; map the method.")
    VIEW_STALE = _token("This service's view of revocations is older than its bound; it waits for the broker.")

    @property
    def meaning(self) -> Meaning:
        """Category, sentence and next step of this reason."""
        return self.value

    @property
    def category(self) -> Category:
        """What kind of "no" this is."""
        return self.value.category
